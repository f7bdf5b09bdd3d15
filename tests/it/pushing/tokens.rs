//! Who is given the password: servers of tokens, and where registries redirect to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::Pusher;
use super::authorities::address_on_the_bridge;
use crate::support::certificates::make_certificates;
use crate::support::registry::{Deed, PASSWORD, Proxy, Registry, USER};
use crate::support::{Bench, run};

/// A registry that wants a token from there; it is insecure, as all are on this machine.
fn registry_with_realm(registry: &Registry, realm: &str) -> Proxy {
    let challenge = format!("Www-Authenticate: Bearer realm=\"{realm}\",service=\"x\"\r\n");
    let challenge: &'static str = challenge.leak();
    Proxy::start(registry.address(), move |_, _, _| {
        Deed::Answer(401, challenge, "")
    })
}

/// A pusher whose password for the registry is in its configuration.
fn with_password(proxy: &Proxy) -> Pusher {
    use base64::Engine as _;

    let pusher = Pusher::new(proxy.address);
    let pair = format!("{USER}:{PASSWORD}");
    let auth = base64::engine::general_purpose::STANDARD.encode(pair);
    let config = serde_json::json!({ "auths": { proxy.address.to_string(): { "auth": auth } } });
    pusher
        .bench
        .write("home/.docker/config.json", &config.to_string());
    pusher.build("1.0.0");
    pusher
}

/// Listens, and keeps the first bytes that each connection sends.
fn listen(host: Ipv4Addr) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    use std::io::Read as _;

    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let keeping = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut bytes = vec![0; 4096];
            let count = client.read(&mut bytes).unwrap_or(0);
            bytes.truncate(count);
            keeping.lock().unwrap().push(bytes);
        }
    });
    (address, heard)
}

#[test]
fn a_server_of_tokens_without_tls_is_not_given_the_password_of_an_insecure_registry() {
    let registry = Registry::new();
    let (server, heard) = listen(address_on_the_bridge());
    let proxy = registry_with_realm(&registry, &format!("http://{server}/token"));
    let pusher = with_password(&proxy);
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "the registry {} wants the password to be sent to http://{server}, and that is not encrypted",
        proxy.address
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let help = format!("`/etc/docker/certs.d/{server}/ca.crt`");
    assert!(ended.stderr.contains(&help), "{}", ended.stderr);
    let ended = pusher.log_in(PASSWORD);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // Not by the engine either, which would have given it.
    assert_eq!(*heard.lock().unwrap(), Vec::<Vec<u8>>::new());
    let mut pull = pusher.bench.jobctl();
    let ended = run(pull.args(["pull", &pusher.name("other")]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    for asked in heard.lock().unwrap().iter() {
        let asked = String::from_utf8_lossy(asked).to_lowercase();
        assert!(!asked.contains("authorization"), "{asked}");
    }
}

#[test]
fn a_server_of_tokens_with_a_certificate_of_nobodys_is_not_given_it_either() {
    let host = address_on_the_bridge();
    let certificates = Bench::new();
    make_certificates(&certificates, "own", &host.to_string());
    let folder = certificates.path().join("own");
    let server = Registry::with_certificate(host, &folder);
    let registry = Registry::new();
    let proxy = registry_with_realm(&registry, &format!("https://{}/token", server.address()));
    let pusher = with_password(&proxy);
    for ended in [pusher.push("1.0.0", &[]), pusher.log_in(PASSWORD)] {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = "and that can't be asked: invalid peer certificate: UnknownIssuer";
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn redirects_are_followed_without_the_password_and_not_for_ever() {
    let registry = Registry::new();
    let store = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let target = store.address;
    let (asked, turns) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (counting, turning) = (Arc::clone(&asked), Arc::clone(&turns));
    let front = Proxy::start(registry.address(), move |method, path, _| {
        let is_tag = method == "GET" && path.contains("/manifests/");
        if is_tag && turning.load(Ordering::Relaxed) > 0 {
            let location = format!("Location: {path}\r\n");
            counting.fetch_add(1, Ordering::Relaxed);
            return Deed::Answer(302, location.leak(), "");
        }
        if is_tag {
            let location = format!("Location: http://{target}{path}\r\n");
            return Deed::Answer(307, location.leak(), "");
        }
        Deed::Pass
    });
    let pusher = with_password(&front);
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(store.count("GET", "/manifests/1.0.0") > 0);
    let ended = pusher.push("1.0.0", &[]);
    assert!(ended.stdout.contains(" was there\n"), "{ended:?}");
    turns.store(1, Ordering::Relaxed);
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "refuses (302): it redirects more than 10 times";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_eq!(asked.load(Ordering::Relaxed), 11);
}
