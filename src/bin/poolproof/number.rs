//! Numbers as arguments: what cannot work is refused by its flag, with what can.

use std::fmt::Display;
use std::str::FromStr;

/// Reads a number from `least` to `most`.
pub fn from_to<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("choose {least} to {most}")),
    }
}
