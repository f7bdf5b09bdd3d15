use hyper::body::Bytes;
use proptest::prelude::*;

use super::{Found, FrameError, Frames};
use crate::engine::run::{Chunk, Stream};

/// A stream, a time, and what was written to the one at the other.
type Told = (Stream, Option<String>, Vec<u8>);

/// All that is found when the bytes come in pieces of this length, neighbours of one stream and
/// time put together.
fn found(mut frames: Frames, bytes: &[u8], piece: usize) -> Result<Vec<Told>, FrameError> {
    let mut found: Vec<Told> = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.receive(Bytes::copy_from_slice(piece));
        while let Found::Chunk(Chunk {
            stream,
            bytes,
            time,
        }) = frames.next()?
        {
            assert!(!bytes.is_empty());
            let time = time.map(|time| time.to_string());
            match found.last_mut() {
                Some(last) if last.0 == stream && last.1 == time => last.2.extend(bytes),
                _ => found.push((stream, time, bytes.to_vec())),
            }
        }
    }
    assert!(frames.is_between());
    Ok(found)
}

fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[stream, 0, 0, 0], &length.to_be_bytes()[..], payload].concat()
}

proptest! {
    #[test]
    fn frames_are_found_wherever_they_are_cut(
        payloads in prop::collection::vec((1u8..3, prop::collection::vec(any::<u8>(), 0..50)), 0..8),
        piece in 1usize..40,
    ) {
        let mut expected: Vec<Told> = Vec::new();
        let mut bytes = Vec::new();
        for (stream, payload) in &payloads {
            bytes.extend(frame(*stream, payload));
            let stream = if *stream == 1 { Stream::Stdout } else { Stream::Stderr };
            match expected.last_mut() {
                _ if payload.is_empty() => {}
                Some(last) if last.0 == stream => last.2.extend(payload),
                _ => expected.push((stream, None, payload.clone())),
            }
        }
        prop_assert_eq!(found(Frames::new(false, false), &bytes, piece), Ok(expected));
    }

    #[test]
    fn a_terminals_bytes_pass_as_they_are(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        piece in 1usize..40,
    ) {
        let expected = vec![(Stream::Stdout, None, bytes.clone())];
        prop_assert_eq!(found(Frames::new(true, false), &bytes, piece), Ok(expected));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(0u8..5, 1..60),
        tty: bool,
        is_stamped: bool,
    ) {
        let mut frames = Frames::new(tty, is_stamped);
        frames.receive(bytes.into());
        while let Ok(Found::Chunk(_)) = frames.next() {}
    }
}

const FIRST: &str = "2026-11-25T04:36:46.000000001Z";
const SECOND: &str = "2026-11-25T04:36:47.5Z";

#[test]
fn each_frames_time_is_taken_from_it() {
    let bytes = [
        frame(1, format!("{FIRST} one two\n").as_bytes()),
        frame(2, b"2026-11-25T04:36:47.500000000Z \n"),
        frame(1, b"no time"),
        frame(1, b"a line without any time in its first characters"),
        frame(1, b""),
        frame(1, b"2026-11-25T04:36:47.500000000Z "),
    ]
    .concat();
    let first = Some(FIRST.to_owned());
    let second = Some(SECOND.to_owned());
    let expected = vec![
        (Stream::Stdout, first, b"one two\n".to_vec()),
        (Stream::Stderr, second, b"\n".to_vec()),
        (
            Stream::Stdout,
            None,
            b"no timea line without any time in its first characters".to_vec(),
        ),
    ];
    for piece in 1..bytes.len() {
        let found = found(Frames::new(false, true), &bytes, piece);
        assert_eq!(found, Ok(expected.clone()), "in pieces of {piece}");
    }
}

#[test]
fn a_terminals_lines_have_their_times_taken_from_them() {
    let text = format!("{FIRST} one\r\n2026-11-25T04:36:47.500000000Z two\r\nno time");
    let expected = vec![
        (Stream::Stdout, Some(FIRST.to_owned()), b"one\r\n".to_vec()),
        (Stream::Stdout, Some(SECOND.to_owned()), b"two\r\n".to_vec()),
        (Stream::Stdout, None, b"no time".to_vec()),
    ];
    for piece in 1..text.len() {
        let found = found(Frames::new(true, true), text.as_bytes(), piece);
        assert_eq!(found, Ok(expected.clone()), "in pieces of {piece}");
    }
}

#[test]
fn the_engines_own_words_and_what_is_no_frame_are_errors() {
    let words = frame(3, b"the disk is full\n");
    for piece in 1..words.len() {
        let said = FrameError::Said("the disk is full".to_owned());
        assert_eq!(found(Frames::new(false, false), &words, piece), Err(said));
    }
    for bytes in [b"\x01abc\n...", b"\x04\0\0\0\0\0\0\x01"] {
        let found = found(Frames::new(false, false), bytes, 8);
        assert_eq!(found, Err(FrameError::NoFrames));
    }
}
