//! Messages of the file transfer, as fsutil's `wire.proto` and `stat.proto` have them.
//!
//! The generated types keep paths as text, and Rust's text is UTF-8; the engine's is not. These are
//! the same on the wire, with paths as the bytes that they are.

use std::collections::HashMap;

/// What a [`Packet`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum PacketKind {
    /// A file there is; without one, the end of the list.
    Stat = 0,
    /// The engine asks for a file's content.
    Request = 1,
    /// A part of a file's content; an empty one is its end.
    Data = 2,
    /// All is sent.
    Finish = 3,
    /// It can't go on.
    Error = 4,
}

/// A message of either side.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Packet {
    #[prost(enumeration = "PacketKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) stat: Option<Stat>,
    /// The file's place in the list.
    #[prost(uint32, tag = "3")]
    pub(super) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: prost::bytes::Bytes,
}

/// What there is to know of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Stat {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    /// As Go's `os.FileMode`.
    #[prost(uint32, tag = "2")]
    pub(super) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(super) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(super) gid: u32,
    #[prost(int64, tag = "5")]
    pub(super) size: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(super) modified: i64,
    /// Where a symbolic link points, or of which file this is another name.
    #[prost(bytes = "vec", tag = "7")]
    pub(super) link: Vec<u8>,
    #[prost(int64, tag = "8")]
    pub(super) device_major: i64,
    #[prost(int64, tag = "9")]
    pub(super) device_minor: i64,
    #[prost(map = "string, bytes", tag = "10")]
    pub(super) attributes: HashMap<String, Vec<u8>>,
}
