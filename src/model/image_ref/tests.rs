use proptest::prelude::*;

use super::ImageRef;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parts(text: &str) -> (Option<String>, String, Option<String>, bool) {
    let image: ImageRef = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(image.to_string(), text);
    (
        image.domain().map(str::to_owned),
        image.path().to_owned(),
        image.tag().map(ToString::to_string),
        image.digest().is_some(),
    )
}

#[test]
fn what_the_distribution_project_takes_is_taken() {
    let part = |text: &str| Some(text.to_owned());
    for (text, expected) in [
        ("test_com".to_owned(), (None, "test_com", None, false)),
        (
            "test.com:tag".to_owned(),
            (None, "test.com", part("tag"), false),
        ),
        (
            "test.com:5000".to_owned(),
            (None, "test.com", part("5000"), false),
        ),
        (
            "test.com/repo:tag".to_owned(),
            (part("test.com"), "repo", part("tag"), false),
        ),
        (
            "test:5000/repo".to_owned(),
            (part("test:5000"), "repo", None, false),
        ),
        (
            "test:5000/repo:tag".to_owned(),
            (part("test:5000"), "repo", part("tag"), false),
        ),
        (
            format!("test:5000/repo@sha256:{HEX}"),
            (part("test:5000"), "repo", None, true),
        ),
        (
            format!("test:5000/repo:tag@sha256:{HEX}"),
            (part("test:5000"), "repo", part("tag"), true),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux".to_owned(),
            (part("sub-dom1.foo.com"), "bar/baz/quux", None, false),
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com".to_owned(),
            (
                part("b.gcr.io"),
                "test.example.com/my-app",
                part("test.example.com"),
                false,
            ),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com".to_owned(),
            (part("xn--n3h.com"), "myimage", part("xn--n3h.com"), false),
        ),
        (
            "foo_bar.com:8080".to_owned(),
            (None, "foo_bar.com", part("8080"), false),
        ),
        (
            "foo/foo_bar.com:8080".to_owned(),
            (None, "foo/foo_bar.com", part("8080"), false),
        ),
        (
            "[2001:db8::1]:5000/repo".to_owned(),
            (part("[2001:db8::1]:5000"), "repo", None, false),
        ),
        (
            "a__b/c-----d".to_owned(),
            (None, "a__b/c-----d", None, false),
        ),
        ("Foo/bar".to_owned(), (part("Foo"), "bar", None, false)),
        (
            "localhost/a".to_owned(),
            (part("localhost"), "a", None, false),
        ),
    ] {
        let (domain, path, tag, has_digest) = expected;
        assert_eq!(
            parts(&text),
            (domain, path.to_owned(), tag, has_digest),
            "{text}"
        );
    }
}

#[test]
fn what_the_distribution_project_refuses_is_refused() {
    for text in [
        "",
        ":justtag",
        "@sha256:ffff",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "aa/asdf$$^/aa",
        "repo@sha256:ffff",
        "a//b",
        "a/",
        "/a",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a_.b",
        "[2001:db8::1]",
        "[fe80::1%eth0]:5000/repo",
        "repo:",
        "repo:a b",
        "https://a/b",
        HEX,
    ] {
        assert!(text.parse::<ImageRef>().is_err(), "{text}");
    }
    assert!(
        "a/".repeat(128)
            .trim_end_matches('/')
            .parse::<ImageRef>()
            .is_ok()
    );
    assert!(
        format!("{}a", "a/".repeat(128))
            .parse::<ImageRef>()
            .is_err()
    );
}

/// Compares with domain and path, `DOMAIN PATH TAG`, or the refusal.
fn table(rows: &[(&str, Option<[&str; 3]>)]) {
    for (text, expected) in rows {
        let image = text.parse::<ImageRef>();
        let parts = image.as_ref().ok().map(|image| {
            let domain = image.domain().unwrap_or_default();
            let tag = image.tag().map(ToString::to_string).unwrap_or_default();
            [domain.to_owned(), image.path().to_owned(), tag]
        });
        let expected = expected.map(|parts| parts.map(str::to_owned));
        assert_eq!(parts, expected, "{text}: {image:?}");
        assert!(image.is_err() || image.unwrap().to_string() == *text);
    }
}

const F: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// `TestReferenceParse` of distribution's `reference`. A first part that can't be told from a folder, such as
/// `foo/…`, is docker's folder here, as its `ParseNormalizedNamed` has it.
#[test]
fn references_are_read_as_distribution_reads_them() {
    table(&[
        ("test_com", Some(["", "test_com", ""])),
        ("test.com:tag", Some(["", "test.com", "tag"])),
        ("test.com:5000", Some(["", "test.com", "5000"])),
        ("test.com/repo:tag", Some(["test.com", "repo", "tag"])),
        ("test:5000/repo", Some(["test:5000", "repo", ""])),
        ("test:5000/repo:tag", Some(["test:5000", "repo", "tag"])),
        (
            &format!("test:5000/repo@sha256:{F}"),
            Some(["test:5000", "repo", ""]),
        ),
        (
            &format!("test:5000/repo:tag@sha256:{F}"),
            Some(["test:5000", "repo", "tag"]),
        ),
        ("", None),
        (":justtag", None),
        (&format!("@sha256:{F}"), None),
        (&format!("repo@sha256:{}", &F[..34]), None),
        (&format!("validname@invaliddigest:{F}"), None),
        ("Uppercase:tag", None),
        ("test:5000/Uppercase/lowercase:tag", None),
        ("lowercase:Uppercase", Some(["", "lowercase", "Uppercase"])),
        (&format!("domain/{}:tag", "a".repeat(256)), None),
        ("aa/asdf$$^/aa", None),
        (
            "sub-dom1.foo.com/bar/baz/quux",
            Some(["sub-dom1.foo.com", "bar/baz/quux", ""]),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
            Some(["sub-dom1.foo.com", "bar/baz/quux", "some-long-tag"]),
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            Some(["b.gcr.io", "test.example.com/my-app", "test.example.com"]),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            Some(["xn--n3h.com", "myimage", "xn--n3h.com"]),
        ),
        (
            &format!("xn--7o8h.com/myimage:xn--7o8h.com@sha256:{F}"),
            Some(["xn--7o8h.com", "myimage", "xn--7o8h.com"]),
        ),
        ("foo_bar.com:8080", Some(["", "foo_bar.com", "8080"])),
        (
            "foo/foo_bar.com:8080",
            Some(["", "foo/foo_bar.com", "8080"]),
        ),
        ("192.168.1.1", Some(["", "192.168.1.1", ""])),
        ("192.168.1.1:tag", Some(["", "192.168.1.1", "tag"])),
        ("192.168.1.1:5000", Some(["", "192.168.1.1", "5000"])),
        ("192.168.1.1/repo", Some(["192.168.1.1", "repo", ""])),
        (
            "192.168.1.1:5000/repo",
            Some(["192.168.1.1:5000", "repo", ""]),
        ),
        (
            "192.168.1.1:5000/repo:5050",
            Some(["192.168.1.1:5000", "repo", "5050"]),
        ),
    ]);
}

/// The same, of registries at IPv6 addresses, and of lengths.
#[test]
fn addresses_and_lengths_are_read_as_distribution_reads_them() {
    table(&[
        ("[2001:db8::1]", None),
        ("[2001:db8::1]:5000", None),
        ("[2001:db8::1]:tag", None),
        ("[2001:db8::1]/repo", Some(["[2001:db8::1]", "repo", ""])),
        (
            "[2001:db8:1:2:3:4:5:6]/repo:tag",
            Some(["[2001:db8:1:2:3:4:5:6]", "repo", "tag"]),
        ),
        (
            "[2001:db8::1]:5000/repo",
            Some(["[2001:db8::1]:5000", "repo", ""]),
        ),
        (
            "[2001:db8::1]:5000/repo:tag",
            Some(["[2001:db8::1]:5000", "repo", "tag"]),
        ),
        (
            &format!("[2001:db8::1]:5000/repo@sha256:{F}"),
            Some(["[2001:db8::1]:5000", "repo", ""]),
        ),
        (
            &format!("[2001:db8::1]:5000/repo:tag@sha256:{F}"),
            Some(["[2001:db8::1]:5000", "repo", "tag"]),
        ),
        (
            "[2001:db8::]:5000/repo",
            Some(["[2001:db8::]:5000", "repo", ""]),
        ),
        ("[::1]:5000/repo", Some(["[::1]:5000", "repo", ""])),
        ("[fe80::1%eth0]:5000/repo", None),
        ("[fe80::1%@invalidzone]:5000/repo", None),
        // That test has no SHA-512; docker has.
        (
            &format!("validname@sha512:{F}{F}"),
            Some(["", "validname", ""]),
        ),
    ]);
    // 255 characters are counted without the registry's host.
    let path = "a".repeat(255);
    table(&[
        (
            &format!("example.com/{path}:tag"),
            Some(["example.com", &path, "tag"]),
        ),
        (&format!("example.com/{path}a:tag"), None),
    ]);
}

/// `TestDomainRegexp`, each with an image behind it.
#[test]
fn hosts_have_distributions_grammar() {
    for (domain, is_taken) in [
        ("test.com", true),
        ("test.com:10304", true),
        ("test.com:http", false),
        ("localhost", true),
        ("localhost:8080", true),
        ("a", true),
        ("a.b", true),
        ("ab.cd.com", true),
        ("a-b.com", true),
        ("-ab.com", false),
        ("ab-.com", false),
        ("ab.c-om", true),
        ("ab.-com", false),
        ("ab.com-", false),
        ("0101.com", true),
        ("001a.com", true),
        ("b.gbc.io:443", true),
        ("b.gbc.io", true),
        ("xn--n3h.com", true),
        ("Asdf.com", true),
        ("192.168.1.1:75050", true),
        ("192.168.1.1:750050", true),
        ("[fd00:1:2::3]:75050", true),
        ("[fd00:1:2::3]75050", false),
        ("[fd00:1:2::3]::75050", false),
        ("[fd00:1:2::3%eth0]:75050", false),
        ("[fd00123123123]:75050", true),
        ("[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:75050", true),
        ("[2001:0db8:85a3:0000:0000:8a2e:0370:7334]:750505", true),
        ("fd00:1:2::3:75050", false),
    ] {
        let image = format!("{domain}/image").parse::<ImageRef>();
        assert_eq!(image.is_ok(), is_taken, "{domain}: {image:?}");
    }
}

/// `TestFullNameRegexp` and `TestReferenceRegexp`.
#[test]
fn names_have_distributions_grammar() {
    for (name, is_taken) in [
        ("", false),
        ("short", true),
        ("simple/name", true),
        ("library/ubuntu", true),
        ("docker/stevvooe/app", true),
        ("aa/aa/aa/aa/aa/aa/aa/aa/aa/bb/bb/bb/bb/bb/bb", true),
        ("a/a/a/a", true),
        ("a/a/a/a/", false),
        ("a//a/a", false),
        ("a", true),
        ("foo.com", true),
        ("foo.com/", false),
        ("foo.com:8080/bar", true),
        ("foo.com:http/bar", false),
        ("foo.com/bar/baz", true),
        ("localhost:8080/bar", true),
        ("a^a", false),
        ("aa/asdf$$^/aa", false),
        ("asdf$$^/aa", false),
        ("aa-a/a", true),
        ("a-/a/a/a", false),
        ("foo.com/a-/a/a", false),
        ("-foo/bar", false),
        ("foo/bar-", false),
        ("foo-/bar", false),
        ("foo/-bar", false),
        ("_foo/bar", false),
        ("foo_bar", true),
        ("foo_bar.com", true),
        ("foo_bar.com:8080/app", false),
        ("foo.com/foo_bar", true),
        ("____/____", false),
        ("_docker/_docker", false),
        ("docker_/docker_", false),
        ("example.com/xn--7o8h.com/myimage", true),
        ("example.com/some_separator__underscore/myimage", true),
        ("example.com/__underscore/myimage", false),
        ("example.com/..dots/myimage", false),
        ("example.com/.dots/myimage", false),
        ("example.com/nodouble..dots/myimage", false),
        ("docker./docker", false),
        (".docker/docker", false),
        ("docker-/docker", false),
        ("do..cker/docker", false),
        ("do__cker:8080/docker", false),
        ("do__cker/docker", true),
        (
            "registry.io/foo/project--id.module--name.ver---sion--name",
            true,
        ),
        ("Asdf.com/foo/bar", true),
        ("Foo/FarB", false),
        ("registry.com:8080/myapp:tag", true),
        ("registry.com:8080/myapp@sha256:badbadbadbad", false),
        ("registry.com:8080/myapp:invalid~tag", false),
        ("bad_hostname.com:8080/myapp:tag", false),
        (&format!("localhost:8080@sha256:{HEX}"), true),
        (&format!("localhost:8080/name@sha256:{HEX}"), true),
        (&format!("localhost:http/name@sha256:{HEX}"), false),
        (&format!("localhost@sha256:{HEX}"), true),
        ("registry.com:8080/myapp@bad", false),
        ("registry.com:8080/myapp@2bad", false),
    ] {
        let image = name.parse::<ImageRef>();
        assert_eq!(image.is_ok(), is_taken, "{name}: {image:?}");
    }
}

/// `TestValidateReferenceName` and `TestValidateRemoteName`.
#[test]
fn what_is_no_name_of_distributions_is_refused() {
    for name in [
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        "[fc00::1]",
        "[fc00::1]:5000",
        "fc00::1:5000/debian",
        "[fe80::1%eth0]:5000/debian",
        "[2001:db8:3:4::192.0.2.33]:5000/debian",
        "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a",
        "-docker-/docker",
        "dock..er/docker",
        "dock_.er/docker",
        "dock-.er/docker",
        "docker/",
        &format!("{}/docker", "this_is_not_a_valid_namespace_".repeat(9)),
    ] {
        assert!(name.parse::<ImageRef>().is_err(), "{name}");
    }
    // With its registry, it can't be an id.
    assert!(format!("docker.io/{HEX}").parse::<ImageRef>().is_ok());
}

/// Names of one image, the short one first; the full one; its registry, and its name there.
const NORMALIZED: &[(&[&str], &str, &str, &str)] = &[
    (&["localhost/fooo"], "localhost/fooo", "localhost", "fooo"),
    (
        &["localhost/fooo/bar"],
        "localhost/fooo/bar",
        "localhost",
        "fooo/bar",
    ),
    (
        &["LOCALDOMAIN/fooo"],
        "LOCALDOMAIN/fooo",
        "LOCALDOMAIN",
        "fooo",
    ),
    (
        &["fooo/bar", "index.docker.io/fooo/bar"],
        "docker.io/fooo/bar",
        "docker.io",
        "fooo/bar",
    ),
    (
        &["ubuntu", "library/ubuntu", "docker.io/ubuntu"],
        "docker.io/library/ubuntu",
        "docker.io",
        "library/ubuntu",
    ),
    (
        &["other/library"],
        "docker.io/other/library",
        "docker.io",
        "other/library",
    ),
    (
        &["127.0.0.1:8000/private/moonbase"],
        "127.0.0.1:8000/private/moonbase",
        "127.0.0.1:8000",
        "private/moonbase",
    ),
    (
        &["example.com:8000/privatebasee"],
        "example.com:8000/privatebasee",
        "example.com:8000",
        "privatebasee",
    ),
    (
        &[
            "ubuntu-12.04-base",
            "index.docker.io/library/ubuntu-12.04-base",
        ],
        "docker.io/library/ubuntu-12.04-base",
        "docker.io",
        "library/ubuntu-12.04-base",
    ),
    (
        &["library/foo/bar"],
        "docker.io/library/foo/bar",
        "docker.io",
        "library/foo/bar",
    ),
    (
        &["store/foo/bar"],
        "docker.io/store/foo/bar",
        "docker.io",
        "store/foo/bar",
    ),
    (&["Foo/bar"], "Foo/bar", "Foo", "bar"),
    (&["FOO/bar"], "FOO/bar", "FOO", "bar"),
    (
        &["docker---rules/docker"],
        "docker.io/docker---rules/docker",
        "docker.io",
        "docker---rules/docker",
    ),
    (
        &["test_com/foo"],
        "docker.io/test_com/foo",
        "docker.io",
        "test_com/foo",
    ),
    (
        &["test-com:8080/foo"],
        "test-com:8080/foo",
        "test-com:8080",
        "foo",
    ),
    (
        &["xn--n3h.com:18080/foo"],
        "xn--n3h.com:18080/foo",
        "xn--n3h.com:18080",
        "foo",
    ),
    (
        &["thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev"],
        "docker.io/library/thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev",
        "docker.io",
        "library/thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev",
    ),
];

/// `TestParseRepositoryInfo` and `TestNormalizedSplitHostname`.
#[test]
fn names_are_normalized_as_distribution_does_it() {
    for (names, full, domain, path) in NORMALIZED {
        for name in *names {
            let image: ImageRef = name.parse().unwrap();
            let canonical = image.canonical();
            assert_eq!(canonical.to_string(), *full, "{name}");
            assert_eq!(
                (canonical.domain(), canonical.path()),
                (Some(*domain), *path),
                "{name}"
            );
            assert_eq!(image.familiar().to_string(), names[0], "{name}");
        }
    }
}

#[test]
fn names_have_a_short_and_a_full_form() {
    for (text, full, short) in [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        (
            "index.docker.io/library/debian",
            "docker.io/library/debian",
            "debian",
        ),
        ("team/app", "docker.io/team/app", "team/app"),
        ("quay.io/a", "quay.io/a", "quay.io/a"),
        ("localhost/a", "localhost/a", "localhost/a"),
    ] {
        let image: ImageRef = text.parse().unwrap();
        assert_eq!(image.canonical().to_string(), full);
        assert_eq!(image.familiar().to_string(), short);
    }
}

#[test]
fn an_upper_case_name_is_answered_with_the_lower_case_one() {
    let error = "Python:3.13"
        .parse::<ImageRef>()
        .expect_err("it is upper-case");
    assert_eq!(error.help.as_deref(), Some("write `python:3.13`"));
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(text in "[a-zA-Z0-9.:/@_-]{0,40}") {
        if let Ok(image) = text.parse::<ImageRef>() {
            prop_assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = text.parse::<ImageRef>();
    }
}
