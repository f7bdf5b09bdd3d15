use proptest::prelude::*;

use super::{ByteSize, Cpus};

/// The cases of docker/go-units' `TestRAMInBytes`.
#[test]
fn sizes_are_read_as_docker_reads_them() {
    for (text, bytes) in [
        ("32", 32),
        ("32b", 32),
        ("32B", 32),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("32kb", 32 << 10),
        ("32Kb", 32 << 10),
        ("32Kib", 32 << 10),
        ("32KIB", 32 << 10),
        ("32Mb", 32 << 20),
        ("32MiB", 32 << 20),
        ("32Gb", 32 << 30),
        ("32Tb", 32 << 40),
        ("32Pb", 32 << 50),
        ("32 mb", 32 << 20),
        ("32.5kB", 33_280),
        ("32.5 kB", 33_280),
        ("0.5g", 1 << 29),
        (".3kB", 307),
        (".3MB", 314_572),
        ("32.", 32),
        ("32.b", 32),
        ("1e9", 1_000_000_000),
        ("1.5e1k", 15 << 10),
        ("15e-1k", 1536),
        ("+1g", 1 << 30),
        ("16777216.9", 16_777_216),
        ("0", 0),
        ("32.333333333333333333333333 kB", 33_109),
    ] {
        assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
    }
    for text in [
        "",
        "hello",
        "invalid",
        "a128m",
        "-32",
        " 32 ",
        ".",
        "e9",
        "1e",
        "0x10",
        "inf",
        "NaN",
        "1e40",
        "32m b",
        "32bm",
        "32ib",
        "1.2.3k",
        "1 k b",
        "99999999999p",
        "32  kb",
    ] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
}

#[test]
fn a_near_size_is_suggested() {
    for (text, help) in [
        ("8 gigs", "write `8gb`"),
        ("8 GBytes", "write `8gb`"),
        ("much", "write a number and a unit: `8gb`, `512mb`"),
    ] {
        let error = text.parse::<ByteSize>().expect_err(text);
        assert_eq!(error.help.as_deref(), Some(help));
    }
}

#[test]
fn what_was_written_is_shown() {
    for text in ["200m", "200mb", "1024", "1kb", "0.5 GiB", "1e9"] {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!(size.to_string(), text);
    }
    let [short, long] = ["200m", "200mb"].map(|text| text.parse::<ByteSize>().unwrap());
    assert_eq!(short, long);
    assert_eq!(short.in_usual_form().to_string(), "200mb");
    for text in ["1/2", "1.50", "2", ".5"] {
        let cpus: Cpus = text.parse().unwrap();
        assert_eq!(cpus.to_string(), text);
    }
    let half: Cpus = "1/2".parse().unwrap();
    assert_eq!(half, "0.5".parse().unwrap());
    assert_eq!(half.in_usual_form().to_string(), "0.5");
}

/// What docker takes was asked of docker 28.2.
#[test]
fn cores_are_counted_in_billionths() {
    for (text, nano) in [
        ("1", 1_000_000_000),
        ("1.5", 1_500_000_000),
        (".5", 500_000_000),
        ("0.000000001", 1),
        ("2.0000000000", 2_000_000_000),
        ("1/2", 500_000_000),
        ("1e-1", 100_000_000),
        ("1e0", 1_000_000_000),
        ("0.5e1", 5_000_000_000),
        ("5.", 5_000_000_000),
        ("+1", 1_000_000_000),
        ("010", 10_000_000_000),
        ("0", 0),
    ] {
        assert_eq!(text.parse::<Cpus>().unwrap().nano(), nano, "{text}");
    }
    for text in [
        "",
        ".",
        "two",
        "foo",
        "1e-32",
        "1/3",
        "1/0",
        "1.0/2",
        "1/+2",
        " 1",
        "-1",
        "1.0000000001",
        "99999999999999999999",
    ] {
        assert!(text.parse::<Cpus>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn sizes_are_written_as_they_are_read(bytes in any::<u64>()) {
        let size = ByteSize::from(bytes);
        prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
    }

    #[test]
    fn cores_are_written_as_they_are_read(nano in any::<u64>()) {
        let cpus = Cpus::from_nano(nano);
        prop_assert_eq!(cpus.to_string().parse::<Cpus>(), Ok(cpus));
    }

    #[test]
    fn no_text_makes_them_panic(text in "[0-9.kmgtpibe/+ -]{0,30}") {
        let _ = (text.parse::<ByteSize>(), text.parse::<Cpus>());
    }
}
