//! `health`: whether the server is ready.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ServingConfig;
use crate::progress::say;

/// Asks the server that has these variables, on this machine, whether it is ready.
pub(super) fn health(serving: &ServingConfig) -> ExitCode {
    let problem = match is_ready(serving) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => "not ready".to_owned(),
        Err(error) => {
            let (host, port) = (&serving.host, serving.port);
            format!("no answer on HOST={host} PORT={port}: {error}")
        }
    };
    say(&problem);
    ExitCode::FAILURE
}

/// What the first of the host's addresses that answers says.
fn is_ready(serving: &ServingConfig) -> Result<bool> {
    let mut outcome = Err(ErrorKind::AddrNotAvailable.into());
    for address in serving.addresses()? {
        outcome = ask(reachable(address));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn ask(address: SocketAddr) -> Result<bool> {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}

/// Where a server that listens on this address is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
