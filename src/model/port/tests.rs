//! Ports, with the facts of docker/go-connections' `nat` tests, docker/cli's tests of `--publish`, and its
//! `swarmopts` port tests.

use super::Port;

/// Compares with the short form that docker makes of each, or its refusal.
fn table(rows: &[(&str, Option<&str>)]) {
    for (text, expected) in rows {
        let port = text.parse::<Port>().map(|port| port.to_string());
        assert_eq!(port.as_deref().ok(), *expected, "{text:?}: {port:?}");
    }
}

/// `TestParsePort`, `TestSplitProtoPort`, `TestParsePortRange`, `TestParsePortNumber`.
#[test]
fn numbers_and_ranges_are_read_as_docker_reads_them() {
    table(&[
        ("asdf", None),
        ("1asdf", None),
        ("", None),
        ("0", Some("0")),
        ("-1", None),
        ("0123", Some("123")),
        ("65535", Some("65535")),
        ("65536", None),
        ("70000", None),
        ("   ", None),
        ("  42  ", None),
        ("+80", None),
        ("1234abc", None),
        ("/udp", None),
        ("1234", Some("1234")),
        ("1234/", Some("1234")),
        ("1234/udp", Some("1234/udp")),
        ("1234/UDP", Some("1234/udp")),
        ("80-8080", Some("80-8080")),
        ("80-8080/", Some("80-8080")),
        ("80-8080/udp", Some("80-8080/udp")),
        ("any port value", None),
        ("any port value/any proto value", None),
        ("1234-1234", Some("1234")),
        ("1234-1235", Some("1234-1235")),
        ("8000-9000", Some("8000-9000")),
        ("0-0", Some("0")),
        ("9000-8000", None),
        ("1234-1230", None),
        ("8000-", None),
        ("-9000", None),
        ("8000-a", None),
        ("8000-9000a", None),
        ("a-9000", None),
        ("8000a-9000", None),
        ("-8000-", None),
        ("-", None),
    ]);
}

/// `TestParsePortSpec…`, `TestPartPortSpecIPV6`, `TestParseNetworkOpts…`, `TestStringer`.
#[test]
fn addresses_and_ports_are_read_as_docker_reads_them() {
    table(&[
        ("0.0.0.0:1234-1235:/tcp", None),
        ("0.0.0.0:1234-1235:", None),
        (
            "0.0.0.0:1234-1235:3333-3334/tcp",
            Some("0.0.0.0:1234-1235:3333-3334"),
        ),
        (
            "[2001:4860:0:2001::68]::333",
            Some("[2001:4860:0:2001::68]::333"),
        ),
        ("[::1]:80:80", Some("[::1]:80:80")),
        (
            "2001:4860:0:2001::68::333",
            Some("[2001:4860:0:2001::68]::333"),
        ),
        ("::1:80:80", Some("[::1]:80:80")),
        ("::::80", Some("[::]::80")),
        ("1234/tcp", Some("1234")),
        ("3456/sctp", Some("3456/sctp")),
        ("1234:1234/tcp", Some("1234:1234")),
        ("2345:2345/udp", Some("2345:2345/udp")),
        ("0.0.0.0:3456:3456/sctp", Some("0.0.0.0:3456:3456/sctp")),
        ("localhost:1234:1234/tcp", None),
        ("1234-1236:1234-1236/tcp", Some("1234-1236:1234-1236")),
        (
            "0.0.0.0:2345-2347:2345-2347/udp",
            Some("0.0.0.0:2345-2347:2345-2347/udp"),
        ),
        ("localhost:1234-1236:1234-1236/tcp", None),
        ("192.168.1.100::80", Some("192.168.1.100::80")),
        ("192.168.1.100:8080:80", Some("192.168.1.100:8080:80")),
        ("192.168.1.100", None),
        ("192.168.1.100:-1:-1", None),
        ("192.168.1.100::6000/udp", Some("192.168.1.100::6000/udp")),
        ("192.168.1.100::6000/sctp", Some("192.168.1.100::6000/sctp")),
        (":8080:6000/tcp", Some("8080:6000")),
        ("192.168.1.100:8080:6000", Some("192.168.1.100:8080:6000")),
        ("::6000", Some("6000")),
        ("[::1]:8080:6000/udp", Some("[::1]:8080:6000/udp")),
        ("[::1]::6000/udp", Some("[::1]::6000/udp")),
        ("::1:8080:6000/udp", Some("[::1]:8080:6000/udp")),
        ("::::6000/udp", Some("[::]::6000/udp")),
    ]);
}

/// docker/cli's `TestConvertToStandardNotation` and the swarm's `TestPortOpt…`.
#[test]
fn the_long_form_is_read_as_docker_reads_it() {
    table(&[
        ("target=10,published=20", Some("20:10")),
        ("target=2500,published=1500", Some("1500:2500")),
        ("published=1500,target=200", Some("1500:200")),
        ("target=80,published=90", Some("90:80")),
        ("published=1500,target:444", None),
        ("published=1500,444", None),
        ("published=1500,target,444", None),
        ("80", Some("80")),
        ("80:8080", Some("80:8080")),
        ("8080:80/tcp", Some("8080:80")),
        ("80:8080/udp", Some("80:8080/udp")),
        ("80-81:8080-8081/tcp", Some("80-81:8080-8081")),
        ("80-82:8080-8082/udp", Some("80-82:8080-8082/udp")),
        ("80-82:8080/udp", Some("80-82:8080/udp")),
        ("80-80:8080/tcp", Some("80:8080")),
        ("target=80", Some("80")),
        ("target=80,protocol=tcp", Some("80")),
        ("target=80,published=8080,protocol=tcp", Some("8080:80")),
        ("published=80,target=8080,protocol=tcp", Some("80:8080")),
        (
            "target=80,published=8080,protocol=tcp,mode=host",
            Some("8080:80"),
        ),
        ("target=80,published=8080,mode=host", Some("8080:80")),
        ("target=80,published=8080,mode=ingress", Some("8080:80")),
        ("invalid,target=80", None),
        ("invalid=field", None),
        ("protocol=invalid", None),
        ("target=invalid", None),
        ("published=invalid", None),
        ("mode=invalid", None),
        ("published=8080,protocol=tcp,mode=ingress", None),
        (r#"target=80,protocol="tcp,mode=ingress""#, None),
        (r#"target=80,"protocol=tcp,mode=ingress""#, None),
        ("9999999", None),
        ("80/xyz", None),
        ("tcp", None),
        ("udp", None),
        // A swarm has no address; a container has.
        ("1.1.1.1:80:80", Some("1.1.1.1:80:80")),
        ("target=80,protocol=UDP", Some("80/udp")),
        ("target=80,published=80=80", None),
    ]);
}

#[test]
fn what_is_no_port_is_refused_with_the_fix() {
    for (text, help) in [
        ("", "a port is a number up to 65535"),
        ("http", "a port is a number up to 65535"),
        ("80000:8000", "a port is a number up to 65535"),
        ("8000:", "a port is a number up to 65535"),
        ("127.0.0.1:80", "write `127.0.0.1:8000:8000`"),
        (
            "localhost:8000:80",
            "write `127.0.0.1`, `0.0.0.0`, or `[::1]`",
        ),
        ("9-8:80", "write `8-9`"),
        (
            "8000-8003:80-81",
            "give both the same length: `8000-8003:9000-9003`",
        ),
        ("80/icmp", "write `tcp`, `udp` or `sctp`, or leave it out"),
        (
            "published=8080",
            "write `published=8000,target=80`, or `8000:80`",
        ),
        (
            "target=80,host_ip=127.0.0.1",
            "the fields are `target`, `published`, `protocol`; an address goes in front: \
             `127.0.0.1:8000:80`",
        ),
    ] {
        let error = text.parse::<Port>().expect_err(text);
        assert_eq!(error.help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn ports_conflict_on_the_same_address() {
    let port = |text: &str| text.parse::<Port>().unwrap();
    for (one, other, expected) in [
        ("8000:80", "8000:81", true),
        ("8000:80", "127.0.0.1:8000:81", true),
        ("127.0.0.1:8000:80", "127.0.0.2:8000:81", false),
        ("8000:80", "8000:81/udp", false),
        ("8000-8002:80-82", "8002:83", true),
        ("8000-8010:80", "8000-8010:81", false),
        ("80", "80", false),
    ] {
        assert_eq!(
            port(one).conflicts_with(&port(other)),
            expected,
            "{one} {other}"
        );
    }
}
