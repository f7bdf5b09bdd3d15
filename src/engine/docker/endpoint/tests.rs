use std::path::Path;

use super::{Authorities, Endpoint, EndpointError, EndpointFlags, check_host, resolve};
use crate::engine::docker::DockerConfig;
use crate::facts::Environment;

/// A configuration folder with the contexts `one` and `two`, the current one being as given.
fn configured(folder: &Path, current: Option<&str>) -> DockerConfig {
    let config = DockerConfig {
        folder: Some(folder.to_owned()),
        current_context: current.map(str::to_owned),
        ..DockerConfig::default()
    };
    for name in ["one", "two"] {
        let (meta, _) = config.context_paths(name).unwrap();
        std::fs::create_dir_all(meta.parent().unwrap()).unwrap();
        let text = format!(
            r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"unix:///{name}.sock","SkipTLSVerify":false}}}}}}"#
        );
        std::fs::write(meta, text).unwrap();
    }
    config
}

fn resolved(
    (host, context): (&str, &str),
    variables: &[(&str, &str)],
    config: &DockerConfig,
) -> Result<Endpoint, EndpointError> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let flags = EndpointFlags {
        host: some(host),
        context: some(context),
    };
    let variables = variables.iter().map(|(name, value)| (*name, *value));
    resolve(&flags, &Environment::new(variables, "/"), config)
}

#[test]
fn the_order_is_that_of_dockers_client() {
    let folder = tempfile::tempdir().unwrap();
    let plain = configured(folder.path(), None);
    let current = configured(folder.path(), Some("two"));
    let host = ("DOCKER_HOST", "unix:///env.sock");
    let context = ("DOCKER_CONTEXT", "one");
    for (flags, variables, config, address, origin) in [
        (
            ("", ""),
            &[][..],
            &plain,
            "unix:///var/run/docker.sock",
            "docker's default",
        ),
        (
            ("", ""),
            &[],
            &current,
            "unix:///two.sock",
            "docker's current context `two`",
        ),
        (
            ("", ""),
            &[context],
            &current,
            "unix:///one.sock",
            "`DOCKER_CONTEXT=one`",
        ),
        (
            ("", ""),
            &[host, context],
            &current,
            "unix:///env.sock",
            "`DOCKER_HOST`",
        ),
        (
            ("unix:///flag.sock", ""),
            &[host, context],
            &current,
            "unix:///flag.sock",
            "`--host`",
        ),
        (
            ("", "two"),
            &[host, context],
            &plain,
            "unix:///two.sock",
            "`--context two`",
        ),
        (
            ("", "default"),
            &[host],
            &current,
            "unix:///env.sock",
            "`DOCKER_HOST`",
        ),
        (
            ("", "default"),
            &[],
            &current,
            "unix:///var/run/docker.sock",
            "`--context default`",
        ),
        (
            ("", ""),
            &[("DOCKER_CONTEXT", "default")],
            &current,
            "unix:///var/run/docker.sock",
            "`DOCKER_CONTEXT=default`",
        ),
        (
            ("", ""),
            &[("DOCKER_HOST", "")],
            &plain,
            "unix:///var/run/docker.sock",
            "docker's default",
        ),
    ] {
        let endpoint = resolved(flags, variables, config).unwrap();
        assert_eq!(
            endpoint.address.to_string(),
            address,
            "{flags:?} {variables:?}"
        );
        assert_eq!(
            endpoint.origin.to_string(),
            origin,
            "{flags:?} {variables:?}"
        );
    }
    let both = resolved(("", ""), &[host, context], &plain).unwrap();
    assert_eq!(both.overridden.as_deref(), Some("one"));
}

#[test]
fn what_contradicts_itself_or_does_not_exist_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), None);
    let error = resolved(("unix:///a", "one"), &[], &config).unwrap_err();
    assert_eq!(error.to_string(), "`--host` and `--context` are both given");
    let error = resolved(("", "three"), &[], &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the context `three` that `--context three` names does not exist"
    );
    assert_eq!(
        error.help(),
        "use one of: default, one, two; or make it: `docker context create NAME`"
    );
}

#[test]
fn addresses_are_read_as_docker_reads_them() {
    let config = DockerConfig::default();
    for (text, expected) in [
        ("unix:///a/b.sock", Ok("unix:///a/b.sock")),
        ("unix://", Ok("unix:///var/run/docker.sock")),
        ("tcp://host:1234", Ok("tcp://host:1234")),
        ("tcp://host", Ok("tcp://host:2375")),
        ("tcp://:1234", Ok("tcp://127.0.0.1:1234")),
        ("tcp://[::1]:1234", Ok("tcp://[::1]:1234")),
        ("host:1234", Ok("tcp://host:1234")),
        ("ssh://host", Ok("ssh://host")),
        (
            "ssh://me@host:22/run/docker.sock",
            Ok("ssh://me@host:22/run/docker.sock"),
        ),
        ("tcp://::1:1234", Err("an IPv6 address needs brackets")),
        ("tcp://u:p@h:1", Err("an engine takes no user or password")),
        (
            "tcp://host:http",
            Err("the port is not a number up to 65535"),
        ),
        ("tcp://host/path", Err("an address has no path")),
        (
            "ssh://me:secret@host",
            Err("a password can't be part of it; use a key"),
        ),
        (
            "ssh://-oProxyCommand=x",
            Err("the machine's name is missing"),
        ),
        ("ssh://", Err("the machine's name is missing")),
        ("npipe:////./pipe/x", Err("named pipes are for Windows")),
        ("ftp://host", Err("the scheme is not known")),
    ] {
        let endpoint = resolved((text, ""), &[], &config);
        let address = endpoint.map(|endpoint| endpoint.address.to_string());
        match (address, expected) {
            (Ok(address), Ok(expected)) => assert_eq!(address, expected, "{text}"),
            (Err(EndpointError::BadAddress { reason, .. }), Err(expected)) => {
                assert_eq!(reason, expected, "{text}");
            }
            (address, _) => panic!("{text}: {address:?}"),
        }
    }
}

/// The rows of docker/cli's `TestParseHost`, `TestParseDockerDaemonHost`, `TestParseTCP` and
/// `TestParseInvalidUnixAddrInvalid`; where something else comes of one, docs/reference says why.
#[test]
fn dockers_own_addresses_are_read_as_docker_reads_them() {
    const SOCKET: &str = "unix:///var/run/docker.sock";
    let config = DockerConfig::default();
    for (text, expected) in [
        ("", Some(SOCKET)),
        (" ", Some(SOCKET)),
        ("  ", Some(SOCKET)),
        ("tcp://host:", Some("tcp://host:2375")),
        ("tcp://", Some("tcp://127.0.0.1:2375")),
        ("tcp://:2375", Some("tcp://127.0.0.1:2375")),
        ("tcp://:2376", Some("tcp://127.0.0.1:2376")),
        ("tcp://0.0.0.0:8080", Some("tcp://0.0.0.0:8080")),
        ("tcp://192.168.0.0:12000", Some("tcp://192.168.0.0:12000")),
        ("tcp://192.168:8080", Some("tcp://192.168:8080")),
        ("tcp://docker.com:2375", Some("tcp://docker.com:2375")),
        ("unix://", Some(SOCKET)),
        ("unix://path/to/socket", Some("unix://path/to/socket")),
        ("0.0.0.1:", Some("tcp://0.0.0.1:2375")),
        ("0.0.0.1:5555", Some("tcp://0.0.0.1:5555")),
        ("[::1]:", Some("tcp://[::1]:2375")),
        ("[::1]:5555", Some("tcp://[::1]:5555")),
        ("[0:0:0:0:0:0:0:1]:", Some("tcp://[0:0:0:0:0:0:0:1]:2375")),
        (
            "[0:0:0:0:0:0:0:1]:5555",
            Some("tcp://[0:0:0:0:0:0:0:1]:5555"),
        ),
        (":6666", Some("tcp://127.0.0.1:6666")),
        ("tcp://:7777", Some("tcp://127.0.0.1:7777")),
        ("unix:///run/docker.sock", Some("unix:///run/docker.sock")),
        ("localhost:", Some("tcp://localhost:2375")),
        ("localhost:5555", Some("tcp://localhost:5555")),
        ("something with spaces", None),
        ("://", None),
        ("unknown://", None),
        ("tcp://:port", None),
        ("tcp://invalid:port", None),
        ("tcp:a.b.c.d", None),
        ("tcp:a.b.c.d/path", None),
        ("udp://127.0.0.1", None),
        ("udp://127.0.0.1:2375", None),
        ("tcp://unix:///run/docker.sock", None),
        ("unix://tcp://127.0.0.1", None),
        // What docker's parser takes: its client, or jobctl, has no use for them.
        ("fd://", None),
        ("fd://something", None),
        ("npipe://", None),
        ("npipe:////./pipe/foo", None),
        ("tcp://0.0.0.0:1234567890", None),
        (" tcp://:7777/path ", None),
        ("0.0.0.1:5555/path", None),
        ("[::1]:5555/path", None),
        ("[0:0:0:0:0:0:0:1]:5555/path", None),
        (":6666/path", None),
        ("tcp://:7777/path", None),
        ("localhost:5555/path", None),
    ] {
        let flags = EndpointFlags {
            host: Some(text.to_owned()),
            context: None,
        };
        let variables = [("DOCKER_HOST", "unix:///not-this.sock")];
        let endpoint = resolve(&flags, &Environment::new(variables, "/"), &config);
        let address = endpoint.map(|endpoint| endpoint.address.to_string());
        assert_eq!(address.as_deref().ok(), expected, "{text:?}");
        assert_eq!(check_host(text).is_ok(), expected.is_some(), "{text:?}");
    }
}

#[test]
fn with_tls_the_default_is_a_port() {
    let config = DockerConfig::default();
    for (host, expected) in [
        (None, "tcp://127.0.0.1:2376"),
        (Some(""), "tcp://127.0.0.1:2376"),
        (Some("0.0.0.1:"), "tcp://0.0.0.1:2376"),
        (Some("[::1]:"), "tcp://[::1]:2376"),
        (Some("localhost:"), "tcp://localhost:2376"),
        (Some(":6666"), "tcp://127.0.0.1:6666"),
        (Some("unix://"), "unix:///var/run/docker.sock"),
    ] {
        let flags = EndpointFlags {
            host: host.map(str::to_owned),
            context: None,
        };
        let variables = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/none")];
        let endpoint = resolve(&flags, &Environment::new(variables, "/"), &config).unwrap();
        assert_eq!(endpoint.address.to_string(), expected, "{host:?}");
    }
}

#[test]
fn tls_is_asked_for_by_variables_or_by_a_contexts_keys() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), "").unwrap();
    let path = folder.path().to_str().unwrap();
    let config = DockerConfig::default();
    let variables = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path)];
    let endpoint = resolved(("tcp://host", ""), &variables, &config).unwrap();
    let super::Address::Tcp {
        port,
        tls: Some(tls),
        ..
    } = endpoint.address
    else {
        panic!("it has TLS");
    };
    assert_eq!((port, tls.is_verified, tls.identity), (2376, true, None));
    assert_eq!(
        tls.authorities,
        Authorities::Only(folder.path().join("ca.pem"))
    );
    let endpoint = resolved(("tcp://host", ""), &[("DOCKER_TLS_VERIFY", "")], &config).unwrap();
    assert_eq!(endpoint.address.to_string(), "tcp://host:2375");
}
