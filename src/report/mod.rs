//! Events and diagnostics → text for people, or JSON. The only place that names indicatif.
