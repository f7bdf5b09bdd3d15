//! Certificates of an authority of a test's own.

use super::{Bench, run};

/// Makes an authority, and certificates of it for a server at an address and for a client.
pub(crate) fn make_certificates(bench: &Bench, folder: &str, address: &str) {
    let script = r#"
        set -e
        mkdir "$1" && cd "$1"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj /CN=authority -keyout ca-key.pem -out ca.pem
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name \
                -keyout $name-key.pem -out $name.csr
        done
        printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth\n' "$2" > server.ext
        printf 'extendedKeyUsage=clientAuth\n' > client.ext
        for name in server client; do
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial \
                -days 2 -extfile $name.ext -out $name.pem
        done
        cp client.pem cert.pem
        cp client-key.pem key.pem
    "#;
    let made = run(bench
        .command("sh")
        .args(["-c", script, "sh", folder, address]));
    assert_eq!(made.code, Some(0), "{made:?}");
}
