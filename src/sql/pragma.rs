//! What each of the engine's pragmas does: a list of those that are known, and the worst of those that are not.

/// What a pragma is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// It only tells, whatever it is given.
    Telling,
    /// It writes what it is given into the database, or hands it to all connections of the process.
    Database,
    /// It does something to the database, whether it is given something or not.
    Acting,
    /// What it is given is a setting of one connection.
    Connection,
    /// It sets how the log is kept; for good, and whatever becomes of the transaction.
    JournalMode,
    /// Another release may have it. It is taken for a setting of one connection that makes its statements do more than they say.
    Unknown,
}

/// A known pragma, and whether statements after it write what they say and no more.
const KNOWN: [(&str, About, bool); 51] = [
    ("application_id", About::Database, true),
    ("auto_vacuum", About::Database, false),
    ("busy_timeout", About::Connection, true),
    ("cache_size", About::Connection, true),
    ("cache_spill", About::Connection, true),
    ("capture_data_changes_conn", About::Connection, false),
    ("cipher", About::Connection, false),
    ("count_changes", About::Connection, true),
    ("data_sync_retry", About::Connection, true),
    ("database_list", About::Telling, true),
    ("empty_result_callbacks", About::Connection, true),
    ("encoding", About::Database, true),
    ("foreign_key_list", About::Telling, true),
    ("foreign_keys", About::Connection, true),
    ("freelist_count", About::Telling, true),
    ("fts_merge_threshold", About::Database, false),
    ("full_column_names", About::Connection, true),
    ("fullfsync", About::Connection, true),
    ("function_list", About::Telling, true),
    ("hexkey", About::Connection, false),
    ("i_am_a_dummy", About::Connection, true),
    ("ignore_check_constraints", About::Connection, true),
    ("index_info", About::Telling, true),
    ("index_list", About::Telling, true),
    ("index_xinfo", About::Telling, true),
    ("integrity_check", About::Telling, true),
    ("journal_mode", About::JournalMode, false),
    ("legacy_file_format", About::Connection, true),
    ("list_types", About::Telling, true),
    ("locking_mode", About::Connection, true),
    ("max_page_count", About::Connection, true),
    ("module_list", About::Telling, true),
    ("mvcc_checkpoint_threshold", About::Database, true),
    ("mvcc_gc_threshold", About::Database, true),
    ("mvcc_group_commit", About::Database, true),
    ("page_count", About::Telling, true),
    ("page_size", About::Database, true),
    ("query_only", About::Connection, true),
    ("quick_check", About::Telling, true),
    ("require_where", About::Connection, true),
    ("schema_version", About::Database, false),
    ("short_column_names", About::Connection, true),
    ("synchronous", About::Connection, true),
    ("table_info", About::Telling, true),
    ("table_list", About::Telling, true),
    ("table_xinfo", About::Telling, true),
    ("temp_store", About::Connection, true),
    ("unstable_capture_data_changes_conn", About::Connection, false),
    ("user_version", About::Database, true),
    ("vdbe_trace", About::Connection, true),
    ("wal_checkpoint", About::Acting, true),
];

/// By its name in lower case.
pub(super) fn about(name: &str) -> (About, bool) {
    match KNOWN.binary_search_by_key(&name, |(known, ..)| known) {
        Ok(place) => (KNOWN[place].1, KNOWN[place].2),
        Err(_) => (About::Unknown, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_pragma_is_found() {
        for (name, what, harmless) in KNOWN {
            assert_eq!(about(name), (what, harmless), "{name}");
        }
        assert_eq!(about("nobody_knows_this"), (About::Unknown, false));
    }
}
