use super::{Sensitive, is_secret_name, starred_out};

const SECRET_NAMES: &[&str] = &[
    "TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "GITHUB_TOKEN",
    "TOKEN2",
    "hf-token",
    "hfToken",
    "HFToken",
    "accessToken",
    "auth.token",
    "API_TOKENS",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "SECRET",
    "SECRETS",
    "CLIENT_SECRET",
    "SECRET_KEY_BASE",
    "VAULT_SECRET_ID",
    "PASSWORD",
    "DB_PASSWORD",
    "PASSWORD_PROD",
    "dbPassword",
    "PGPASSWORD",
    "MYSQL_PWD",
    "SMTP_PASS",
    "DB_PW",
    "REGISTRY_PASSWD",
    "KEY_PASSPHRASE",
    "CREDENTIAL",
    "GOOGLE_CREDENTIALS",
    "DB_CREDS",
    "PRIVATE_KEY",
    "DEPLOY_PRIVATE_KEY",
    "PRIVATE_KEY_B64",
    "API_KEY",
    "OPENAI_API_KEY",
    "WANDB_API_KEY",
    "X-Api-Key",
    "APIKEY",
    "NEXT_PUBLIC_API_KEY",
    "ACCESS_KEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "SSH_KEY",
    "LICENSE_KEY",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "SENTRY_DSN",
    "DATABASE_DSN",
    "GITHUB_PAT",
    "BASIC_AUTH",
    "DOCKER_AUTH_CONFIG",
    "AUTHORIZATION",
    "SESSION_COOKIE",
    "JWT",
    "WEBHOOK_URL",
    "SLACK_WEBHOOK",
    "WIFI_PSK",
    "npm_config__authToken",
    "SSHPASS",
    "DB_PASS_RO",
    "WANDB_KEY",
    "DATADOG_KEY",
    "HUGGINGFACE_KEY",
    "GOOGLE_KEY",
    "STRIPE_SK",
    "X-Amz-Signature",
];

const PLAIN_NAMES: &[&str] = &[
    "LR",
    "SEED",
    "EPOCHS",
    "N_EPOCHS",
    "TOKENIZERS_PARALLELISM",
    "TOKENIZER",
    "TOKENS",
    "MAX_TOKENS",
    "MAX_NEW_TOKENS",
    "NUM_TOKENS",
    "PAD_TOKEN",
    "PAD_TOKEN_ID",
    "EOS_TOKEN_ID",
    "MASK_TOKEN",
    "LOSS_PER_TOKEN",
    "TOKEN_TYPE",
    "TOKEN_LIMIT",
    "TOKEN_CLASSIFICATION",
    "JWT_ALG",
    "COOKIE_DOMAIN",
    "TOKEN_FILE",
    "TOKEN_URL",
    "TOKEN_IDS",
    "USE_AUTH_TOKEN",
    "KEY",
    "KEYBOARD",
    "MONKEY",
    "PUBLIC_KEY",
    "PRIMARY_KEY",
    "SORT_KEY",
    "CACHE_KEY",
    "KEY_DIM",
    "NUM_KEYS",
    "PASSES",
    "N_PASSES",
    "FORWARD_PASS",
    "BYPASS",
    "COMPASS",
    "PASSENGER",
    "PASSWORD_FILE",
    "PASSWORD_MIN_LENGTH",
    "password-stdin",
    "REQUIRE_PASSWORD",
    "SECRET_NAME",
    "SECRETARY",
    "AWS_SHARED_CREDENTIALS_FILE",
    "PRIVATE_KEY_PATH",
    "API_KEY_HEADER",
    "AUTHOR",
    "AUTHORS",
    "GIT_AUTHOR_NAME",
    "AUTH_MODE",
    "SSH_AUTH_SOCK",
    "GIT_ASKPASS",
    "PWD",
    "OLDPWD",
    "PATH",
    "PATTERN",
    "HOME",
    "DATABASE_URL",
    "HTTP_PROXY",
    "NO_PROXY",
    "WEBHOOK_TIMEOUT",
    "N_TOKEN",
    "TOKEN_COUNTS",
    "TOKEN_BATCH",
    "BATCH_TOKEN",
    "TOKEN_DROP",
    "TOKEN_SHIFT",
    "TOKEN_MIXING",
    "TOKEN_DROPOUT_P",
    "IMAGE_TOKEN",
    "EOT_TOKEN",
    "UNKNOWN_TOKEN",
    "PROMPT_TOKEN",
    "LABEL_TOKEN",
    "JWT_CLASSES",
    "SHARED_KEYS",
    "",
    "_",
];

#[test]
fn names_say_whether_their_values_are_secrets() {
    for name in SECRET_NAMES {
        assert!(is_secret_name(name), "{name} is a secret's name");
    }
    for name in PLAIN_NAMES {
        assert!(!is_secret_name(name), "{name} is no secret's name");
    }
}

#[test]
fn a_secrets_name_does_not_make_every_value_a_secret() {
    for (name, value, is_secret) in [
        ("TOKEN", "5", false),
        ("TOKEN", "4096", false),
        ("TOKEN", "true", false),
        ("TOKEN", "None", false),
        ("TOKEN", "<image>", false),
        ("TOKEN", "<|endoftext|>", false),
        ("TOKEN", "[PAD]", false),
        ("TOKEN", "0.1", false),
        ("HOST_KEY", "3", false),
        ("PW", "0.3", false),
        ("N_TOKEN", "5", false),
        ("TOKEN_DROP", "0.1", false),
        ("TOKEN_MIXING", "true", false),
        ("NO_TOKEN", "1", false),
        ("NO_TOKEN", "", false),
        ("USE_API_KEY", "true", false),
        ("NO_TOKEN", "CANARY", true),
        ("USE_API_KEY", "CANARY", true),
        ("TOKEN", "", true),
        ("TOKEN", "123456", true),
        ("TOKEN", "<a>b", true),
        ("PASSWORD", "1234", true),
        ("DB_PW", "1234", true),
        ("PGPASSWORD", "true", true),
        ("ID", "5", true),
    ] {
        let sensitive = Sensitive::new(["ID"]);
        assert_eq!(
            sensitive.is_secret(name, value),
            is_secret,
            "{name}={value}"
        );
    }
}

/// Values that are secrets by their form, with stars where the secret is.
const SECRET_VALUES: &[(&str, &str)] = &[
    ("hf_abcdefghijklmnopqrstuvwxyz012345", "***"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("ghs_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("github_pat_11ABCDEFG0abcdefghij_klmnopqrstuvwxyz", "***"),
    ("glpat-abcdefghij0123456789", "***"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("pypi-AgEIcHlwaS5vcmcCJGFiY2RlZmdoaWprbG1ub3A", "***"),
    ("dckr_pat_abcdefghijklmnopqrstuvwxyz0", "***"),
    ("AKIAIOSFODNN7EXAMPLE", "***"),
    ("ASIAIOSFODNN7EXAMPLE", "***"),
    ("AIzaSyA0123456789abcdefghijklmnopqrstuv", "***"),
    ("GOCSPX-abcdefghijklmnopqrstuvwxyz01", "***"),
    ("ya29.a0abcdefghijklmnopqrstuvwxyz", "***"),
    ("sk-abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("sk-proj-abcdefghijklmnop_qrstuvwxyz", "***"),
    ("sk-ant-api03-abcdefghijklmnop-qrstuvwxyz", "***"),
    ("r8_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
    ("gsk_abcdefghijklmnopqrstuvwxyz", "***"),
    ("nvapi-abcdefghijklmnopqrstuvwxyz", "***"),
    ("sk_live_abcdefghijklmnopqrstuvwx", "***"),
    ("whsec_abcdefghijklmnopqrstuvwx", "***"),
    (
        "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz",
        "***",
    ),
    ("xoxb-123456789012-abcdefghijkl", "***"),
    ("dapi0123456789abcdef0123456789abcdef", "***"),
    ("hvs.abcdefghijklmnopqrstuvwxyz", "***"),
    ("123456789:AAabcdefghijklmnopqrstuvwxyz0123456", "***"),
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
        "***",
    ),
    (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
        "***",
    ),
    ("-----BEGIN RSA PRIVATE KEY-----\\nMIIE\\n", "***"),
    (
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
        "***\n",
    ),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY", "***"),
    ("AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQ", "***"),
    ("postgres://u:p@h/d", "postgres://u:***@h/d"),
    (
        "postgresql+psycopg://u:p%40ss@h:5432/d",
        "postgresql+psycopg://u:***@h:5432/d",
    ),
    ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
    ("amqp://u:p@ss@host", "amqp://u:***@host"),
    ("http://user:pw@proxy:3128", "http://user:***@proxy:3128"),
    (
        "https://0123456789abcdef0123456789abcdef@sentry.io/1",
        "https://***@sentry.io/1",
    ),
    ("https://hooks.slack.com/services/T000/B000/abcdefgh", "***"),
    ("https://discord.com/api/webhooks/123456/abcdef", "***"),
    (
        "https://h/x?sig=1&token=abc&y=2",
        "https://h/x?sig=1&token=***&y=2",
    ),
    (
        "host=h user=u password=hunter2",
        "host=h user=u password=***",
    ),
    (
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=b3Blbg==;X=1",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=***;X=1",
    ),
    ("Bearer abcdefgh12345678", "Bearer ***"),
    ("Authorization: Bearer abc", "Authorization: Bearer ***"),
    ("Authorization: Basic dTpw", "Authorization: Basic ***"),
    ("X-Api-Key: abc", "X-Api-Key: ***"),
    (
        r#"{"user":"u","password":"a\"b"}"#,
        r#"{"user":"u","password":"***"}"#,
    ),
    ("--lr 3 --token abc --x", "--lr 3 --token *** --x"),
    ("-Ddb.password=abc -Xmx1g", "-Ddb.password=*** -Xmx1g"),
    (
        "export HF_TOKEN=abc; python train.py",
        "export HF_TOKEN=***; python train.py",
    ),
    ("HF_TOKEN='a b' python", "HF_TOKEN='***' python"),
    ("x\u{3000}TOKEN=a\u{a0}b", "x\u{3000}TOKEN=***\u{a0}b"),
    ("a=b=TOKEN=c", "a=b=TOKEN=***"),
    ("TOKEN=\"a", "TOKEN=\"***"),
    ("postgres://u:$CANARYx@h/d", "postgres://u:***@h/d"),
    ("postgres://u:a/CANARY@h/d", "postgres://u:***@h/d"),
    ("Server=h;Uid=u;Pwd=CANARY;", "Server=h;Uid=u;Pwd=***;"),
    ("--db-password=-CANARY", "--db-password=***"),
    ("--password=a\\ CANARY b", "--password=*** b"),
    ("password: CANARY", "password: ***"),
    ("a: 1\npassword: 'a CANARY'\n", "a: 1\npassword: ***\n"),
    (
        "{token: CANARY, password: b}",
        "{token: ***, password: ***}",
    ),
    ("{'password': 'CANARY'}", "{'password': '***'}"),
    (
        r#"{\"password\": \"a\\\"CANARY\", \"lr\": 1}"#,
        r#"{\"password\": \"***\", \"lr\": 1}"#,
    ),
    (
        r#"{"password": ["a", "b"], "lr": 1}"#,
        r#"{"password": ***, "lr": 1}"#,
    ),
    (
        "https://h/b?sv=2020&sig=CANARY%2B&se=1",
        "https://h/b?sv=2020&sig=***&se=1",
    ),
    (
        "https://h/b?X-Amz-Signature=CANARY&x=1",
        "https://h/b?X-Amz-Signature=***&x=1",
    ),
    (
        "machine h login u password CANARY",
        "machine h login u password ***",
    ),
    (
        "curl -s -u user:CANARY https://h",
        "curl -s -u user:*** https://h",
    ),
];

const PLAIN_VALUES: &[&str] = &[
    "",
    "0.001",
    "3",
    "true",
    "train",
    "a b c",
    "hf_hub",
    "sk-learn-random-forest-classifier",
    "skip-this-step-and-then-some-more",
    "npm_run",
    "AKIA",
    "akiaiosfodnn7example",
    "debian:trixie-slim",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "0191b1f2-7a6e-7cc2-9d3f-0123456789ab",
    "https://example.org/a?b=c#d",
    "https://example.org:8080/x@y",
    "http://proxy:3128",
    "ssh://git@github.com/o/r.git",
    "git@github.com:o/r.git",
    "user@example.org",
    "https://user@bitbucket.org/o/r.git",
    "localhost,127.0.0.1,.example.org",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@here",
    "1.2.3-rc.1+build.5",
    "/root/.cache/huggingface/token",
    "--max-tokens 512 --lr 0.1",
    "--tokenizer bert-base",
    "--password-stdin alice",
    "Classify each token: positive or negative",
    "Bearer of news",
    "HF_TOKEN=$HF_TOKEN python",
    "--token \"$HF_TOKEN\"",
    "--token ***",
    "[PAD]",
    "sort-key: abc",
    "TOKEN=",
    "--token --lr 1",
    "é=ü --é ü",
    r#"{"lr": 0.1, "tokens": "a"}"#,
    "max_tokens=512,top_p=0.9",
    "postgres://u:$PW@h/d",
    "postgres://u:$pw@h/d",
    "https://example.org:8080/a/b@c",
    "http://[::1]:8080/x@y",
    "http://a:80,http://b:81/x@y",
    "cd x;PWD=",
    "Token: one of many",
    "token: 5",
    "TOKEN=5 TOKEN=<pad>",
    r#"{"token": 5}"#,
    "curl -u 1000:1000 h",
    "2026-01-01T00:00:00Z",
];

#[test]
fn forms_say_whether_values_are_secrets() {
    let sensitive = Sensitive::default();
    for (value, masked) in SECRET_VALUES {
        assert_eq!(sensitive.masked(value), *masked);
    }
    for value in PLAIN_VALUES {
        assert_eq!(sensitive.masked(value), *value);
    }
}

#[test]
fn secrets_among_the_words_of_a_command_are_starred_out() {
    for (command, expected) in [
        ("train --lr 0.1 --epochs=3", "train --lr 0.1 --epochs=3"),
        ("x --password=abc", "x '--password=***'"),
        ("x --password abc --y", "x --password *** --y"),
        ("x --token --verbose a", "x --token --verbose a"),
        ("x --api-key 'a b'", "x --api-key ***"),
        ("x --max-tokens 512", "x --max-tokens 512"),
        ("x --token", "x --token"),
        ("x -e HF_TOKEN=abc -e LR=1", "x -e 'HF_TOKEN=***' -e 'LR=1'"),
        ("x 'HF_TOKEN=a b'", "x 'HF_TOKEN=***'"),
        ("x -eHF_TOKEN=abc", "x '-eHF_TOKEN=***'"),
        ("x -e=HF_TOKEN=abc", "x '-e=HF_TOKEN=***'"),
        ("x --env=HF_TOKEN=abc", "x '--env=HF_TOKEN=***'"),
        ("x +db.password=abc", "x '+db.password=***'"),
        ("x CUSTOMER_ID=7", "x 'CUSTOMER_ID=***'"),
        (
            "curl -H 'Authorization: Bearer abc' http://h",
            "curl -H 'Authorization: Bearer ***' http://h",
        ),
        ("sh -c 'curl --token abc h'", "sh -c 'curl --token *** h'"),
        ("x --password '$CANARY'", "x --password ***"),
        ("x --token -CANARY --y", "x --token *** --y"),
        ("x --token -v a", "x --token -v a"),
        ("x --token 5", "x --token 5"),
        ("x --password=-CANARY", "x '--password=***'"),
        ("x -u user:CANARY h", "x -u 'user:***' h"),
        ("x --user=user:CANARY h", "x '--user=user:***' h"),
        ("x -u 1000:1000 -u app:app", "x -u 1000:1000 -u app:app"),
        ("x -u https://h/abcdef", "x -u https://h/abcdef"),
        ("git clone https://u:p@h/r", "git clone 'https://u:***@h/r'"),
    ] {
        let words = shell_words::split(command).unwrap();
        let masked = Sensitive::new(["CUSTOMER_ID"]).masked_words(&words);
        let expected = shell_words::split(expected).unwrap();
        assert_eq!(masked, expected, "{command}");
    }
}

#[test]
fn the_password_of_an_address_is_a_part_of_its_own() {
    let parts = Sensitive::default().parts("postgres://u:p%40ss@h/d");
    assert_eq!(parts, ["p@ss", "p%40ss"]);
    assert_eq!(Sensitive::default().parts("hush"), [""; 0]);
}

#[test]
fn what_was_starred_out_is_found_in_the_whole() {
    for (shown, word, expected) in [
        ("***", "hush", Some(&["hush"][..])),
        ("--token=***", "--token=hush", Some(&["hush"])),
        ("a *** b *** c", "a one b two c", Some(&["one", "two"])),
        ("plain", "plain", Some(&[])),
        ("--token=***", "--seed=1", None),
        ("a *** b", "a one c", None),
    ] {
        let found = starred_out(shown, word);
        assert_eq!(found.as_deref(), expected, "{shown}");
    }
}

#[test]
fn a_long_value_is_looked_through_in_no_time() {
    let sensitive = Sensitive::default();
    for text in [
        "a=",
        "--a ",
        "\"a\":",
        "a://",
        "a-b:",
        "-----BEGIN KEY-----",
    ] {
        let long = text.repeat(128 * 1024 / text.len());
        let start = std::time::Instant::now();
        let _ = sensitive.is_value(&long);
        assert!(start.elapsed().as_secs() < 20, "{text}");
    }
}

#[test]
fn in_a_source_only_what_has_a_form_is_starred_out() {
    for (text, expected) in [
        (
            "token = tokens[0]; password = read()\n",
            "token = tokens[0]; password = read()\n",
        ),
        ("+AWS=AKIAABCDEFGHIJKLMNOP\n", "+AWS=***\n"),
        (
            "db = \"postgres://u:hush@h/d\"\n",
            "db = \"postgres://u:***@h/d\"\n",
        ),
        (
            "url = f\"postgres://u:${PW}@h\"\n",
            "url = f\"postgres://u:${PW}@h\"\n",
        ),
    ] {
        assert_eq!(super::masked_source(text), expected);
    }
}
