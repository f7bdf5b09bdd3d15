//! The Docker Engine (and Podman's socket). The only place that names bollard.
