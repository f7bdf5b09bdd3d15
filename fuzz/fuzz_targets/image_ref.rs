//! A reference is read as it is written, or refused.
#![no_main]

use jobctl::model::ImageRef;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ImageRef>() {
        assert_eq!(reference.to_string(), text);
        let full = reference.canonical();
        // A name may be just too long in full.
        if full.repository().len() < 256 {
            assert_eq!(full.to_string().parse(), Ok(full));
        }
    }
});
