//! Bytes from one connection to another, both ways.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

/// How many bytes are read at once.
const PIECE: usize = 16 << 10;
/// After which silence the kernel asks a peer whether it is still there, how often, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);

/// When something last moved, and whether a side has closed its half.
struct Activity {
    last: Instant,
    is_half_open: bool,
}

/// Passes bytes on until both sides have closed their half, or nothing has moved for too long.
pub(super) async fn both_ways(
    mut client: TcpStream,
    mut server: TcpStream,
    idle: Duration,
    half_open: Duration,
) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        keep_alive(stream)?;
    }
    let activity = Mutex::new(Activity {
        last: Instant::now(),
        is_half_open: false,
    });
    let passed = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            passed = async {
                tokio::try_join!(
                    one_way(from_client, to_server, &activity),
                    one_way(from_server, to_client, &activity),
                )
            } => passed.map(drop),
            () = silence(&activity, idle, half_open) => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    if passed.is_err() {
        // Neither side is to take this for a whole answer or request.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
    passed
}

async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    activity: &Mutex<Activity>,
) -> io::Result<()> {
    let moved = |is_end: bool| {
        let mut activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
        activity.last = Instant::now();
        activity.is_half_open |= is_end;
    };
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        moved(length == 0);
        if length == 0 {
            return to.shutdown().await;
        }
        let mut left = &piece[..length];
        while !left.is_empty() {
            let written = to.write(left).await?;
            moved(false);
            left = &left[written..];
        }
    }
}

/// Waits until nothing has moved for too long.
async fn silence(activity: &Mutex<Activity>, idle: Duration, half_open: Duration) {
    // How soon it is seen that a side has closed its half.
    let look = idle.min(half_open);
    loop {
        let (last, limit) = {
            let activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = if activity.is_half_open {
                half_open
            } else {
                idle
            };
            (activity.last, limit)
        };
        let now = Instant::now();
        if now.duration_since(last) >= limit {
            return;
        }
        sleep_until((last + limit).min(now + look)).await;
    }
}

/// Has the kernel find out when a peer is gone that could not say so.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let (after, interval, count) = KEEPALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, after)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    Ok(sockopt::set_tcp_keepcnt(stream, count)?)
}
