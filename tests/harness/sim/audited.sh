#!/bin/sh
# A program for an audit: the body of a test that has a leak, whatever arguments it is given.
exec "$POOLPROOF_TEST_PROGRAM" --exact sim::leaks::an_audited_process --ignored --nocapture --test-threads 1
