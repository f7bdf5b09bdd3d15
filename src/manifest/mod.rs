//! `jobs.yaml` and env files.
