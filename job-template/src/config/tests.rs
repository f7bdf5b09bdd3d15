use super::*;

#[test]
fn slips_in_names_of_variables_are_found_and_others_are_not() {
    for (name, meant) in [
        ("NUM_EPOCHS", "N_EPOCHS"),
        ("EPOCHS", "N_EPOCHS"),
        ("BATCHSIZE", "BATCH_SIZE"),
        ("OMP_NUM_THREAD", "OMP_NUM_THREADS"),
        ("PATIENTCE", "PATIENCE"),
    ] {
        assert_eq!(Config::meant(name).as_deref(), Some(meant), "{name}");
    }
    for name in [
        "MODEL",
        "HOME",
        "HOSTNAME",
        "PATH",
        "MKL_NUM_THREADS",
        "LANG",
        "PWD",
        "TERM",
        "SHLVL",
    ] {
        assert_eq!(Config::meant(name), None, "{name}");
    }
}

fn read(given: &[(&str, &str)]) -> Result<Config, InvalidVariables> {
    Config::read(|name| {
        given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn defaults_are_allowed() {
    let config = read(&[]).unwrap();
    assert_eq!(config.training.batch_size, 8);
    assert_eq!(config.training.lr.to_bits(), 6.5e-5_f64.to_bits());
    assert_eq!(config.model, None);
}

#[test]
fn blanks_around_a_value_do_not_count() {
    assert!(!read(&[("TRAIN_BODY", "0 ")]).unwrap().training.train_body);
}

#[test]
fn an_empty_value_is_the_default() {
    assert_eq!(read(&[("PORT", " ")]).unwrap().serving.port, 8000);
}

/// The original job read its threads from `BATCH_SIZE`.
#[test]
fn threads_do_not_follow_the_batch_size() {
    let config = read(&[("BATCH_SIZE", "32"), ("OMP_NUM_THREADS", "3")]).unwrap();
    assert_eq!(
        (config.training.batch_size, config.compute.threads),
        (32, 3)
    );
}

#[test]
fn all_problems_are_told_at_once_with_what_is_allowed() {
    let error = read(&[
        ("NUM_TRAIN", "0"),
        ("LR", "fast"),
        ("VALID_PCT", "NaN"),
        ("TRAIN_BODY", "yes"),
        ("DEVICE", "gpu"),
        ("PRECISION", "fp16"),
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "NUM_TRAIN=\"0\": NUM_TRAIN is a whole number from 1 to 10000000\n\
         VALID_PCT=\"NaN\": VALID_PCT is a number from 0 to 0.5\n\
         LR=\"fast\": LR is a number from 0 to 1\n\
         TRAIN_BODY=\"yes\": TRAIN_BODY is 0 or 1\n\
         DEVICE=\"gpu\": DEVICE is auto, cpu, cuda or cuda:N\n\
         PRECISION=\"fp16\": PRECISION is auto, fp32, bf16, int8"
    );
}

#[test]
fn devices_have_numbers() {
    let device = |value| read(&[("DEVICE", value)]).unwrap().compute.device;
    assert_eq!(device("cuda"), DeviceChoice::Cuda(0));
    assert_eq!(device("cuda:3"), DeviceChoice::Cuda(3));
}

#[test]
fn proxies_are_addresses_and_networks() {
    let proxies = |value| {
        let config = read(&[("TRUSTED_PROXIES", value)]);
        config.map(|config| {
            config
                .serving
                .trusted_proxies
                .iter()
                .map(ToString::to_string)
                .collect()
        })
    };
    let expected: Vec<_> = ["10.0.0.0/8", "192.168.1.7/32", "fd00::1/128"]
        .map(String::from)
        .into();
    assert_eq!(proxies("10.0.0.0/8, 192.168.1.7,fd00::1"), Ok(expected));
    assert_eq!(proxies(""), Ok(Vec::new()));
    assert_eq!(
        proxies("10.0.0.0/8 proxy").unwrap_err().to_string(),
        "TRUSTED_PROXIES=\"10.0.0.0/8 proxy\": TRUSTED_PROXIES is a list of addresses and networks \
         (10.0.0.0/8) with commas between"
    );
}

#[test]
fn the_best_model_is_named_by_a_direction_and_a_metric() {
    let best = |value| read(&[("BEST", value)]).map(|config| config.training.best);
    assert_eq!(best(""), Ok(None));
    for name in ["max accuracy", "min loss", "max macro_f1"] {
        let objective = best(name).unwrap().unwrap();
        assert_eq!(objective.to_string(), name);
    }
    for name in ["accuracy", "max f1", "max accuracy now", "more accuracy"] {
        assert_eq!(
            best(name).unwrap_err().to_string(),
            format!("BEST={name:?}: BEST is max or min, and accuracy, loss or macro_f1")
        );
    }
    let loss = best("min loss").unwrap().unwrap();
    assert!(loss.is_better(0.1, 0.2) && !loss.is_better(0.2, 0.2));
    assert!(!loss.is_better(f64::NAN, 0.2));
}
