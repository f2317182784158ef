//! The codec against anything: golden bytes, every truncation, every flipped bit, random bodies.

use super::hello::{Hello, HostId, Road};
use super::message::{Decoded, Kind, Message};
use super::wire::{FLAG_OPTIONAL, HEADER_BYTES, Header, MAGIC};
use super::{Attach, ControlConfig, Fabric, KeyAsk};
use crate::engine::random::Random;
use crate::limits;
use crate::status::{Error, Status};

fn hello() -> Hello {
    Hello {
        version: (1, 0),
        fabrics: 3,
        uuid: *b"0123456789abcdef",
        pid: 0x0102_0304,
        uid: 1000,
        ucx_version: (1, 13, 1),
        max_message: 65_536,
        max_address: 16_384,
        keepalive_ms: 3_000,
        host: HostId(*b"boot-id-16-bytes--netns-"),
        name: "a".into(),
        host_name: "node".into(),
        settings: vec![("TCP_TX_SEG_SIZE".into(), "256K".into())],
    }
}

/// One or more of every kind, with its bytes in hexadecimal.
fn samples() -> Vec<(Message, &'static str)> {
    let attach = Attach { route: 7, address: vec![0xaa, 0xbb] };
    let ask = KeyAsk { export_id: 9, secret: *b"sixteen secrets!", ways: 5, fabric: 1 };
    let grant = |descriptor, rma| Message::KeyGrant { request: 4, length: 4096, rights: 3, descriptor, rma };
    let status = Status::LimitReached;
    vec![
        (Message::Hello(Box::new(hello())), GOLDEN[0]),
        (Message::Welcome { hello: Box::new(hello()), local: b"rde-x".to_vec() }, GOLDEN[1]),
        (Message::Refused { status, text: "no".into() }, GOLDEN[2]),
        (Message::Challenge { nonce: [0xC1; 32] }, GOLDEN[21]),
        (Message::Proof { nonce: [0xC2; 32], proof: [0xC3; 32] }, GOLDEN[22]),
        (Message::Ready { fabric: Fabric::Network }, GOLDEN[3]),
        (Message::Ping, GOLDEN[4]),
        (Message::Pong, GOLDEN[5]),
        (Message::Bye { failure: None, text: String::new() }, GOLDEN[6]),
        (Message::Bye { failure: Some(Status::Transport), text: "x".into() }, GOLDEN[7]),
        (Message::Attach { request: 1, ours: attach.clone() }, GOLDEN[8]),
        (Message::Attached { request: 1, credits: 64, ours: attach }, GOLDEN[9]),
        (Message::AttachRefused { request: 1, status, text: "no".into() }, GOLDEN[10]),
        (Message::Detach { route: 7, status }, GOLDEN[11]),
        (Message::Credits { route: 7, count: 32 }, GOLDEN[12]),
        (Message::CreditsWanted { route: 7 }, GOLDEN[13]),
        (Message::CreditsRefused { route: 7, status }, GOLDEN[14]),
        (Message::KeyAsk { request: 4, ask }, GOLDEN[15]),
        (grant(false, None), GOLDEN[16]),
        (grant(true, Some((0x1000, vec![1, 2, 3]))), GOLDEN[17]),
        (Message::KeyRefused { request: 4, status: Status::Revoked }, GOLDEN[18]),
        (Message::KeyDropped { export_id: 9 }, GOLDEN[19]),
        (Message::KeyRevoked { export_id: 9 }, GOLDEN[20]),
        (Message::Ring { route: 7 }, GOLDEN[23]),
        (Message::Stream { ticket: [0xC4; 32] }, GOLDEN[24]),
    ]
}

const GOLDEN: [&str; 25] = [
    concat!(
        "52444543720000000100000001000000030000003031323334353637383961626364656604030201e803000001000000",
        "0d000000010000000000010000400000b80b0000626f6f742d69642d31362d62797465732d2d6e65746e732d01006104",
        "006e6f646501000f005443505f54585f5345475f53495a4504003235364b",
    ),
    concat!(
        "52444543790000000200000005007264652d7801000000030000003031323334353637383961626364656604030201e8",
        "030000010000000d000000010000000000010000400000b80b0000626f6f742d69642d31362d62797465732d2d6e6574",
        "6e732d01006104006e6f646501000f005443505f54585f5345475f53495a4504003235364b",
    ),
    "524445430800000003000000f3ffffff02006e6f",
    "52444543010000000600000001",
    "524445430000000007000000",
    "524445430000000008000000",
    "524445430600000009000000000000000000",
    "524445430700000009000000e7ffffff010078",
    "524445430c0000000a00000001000000070000000200aabb",
    "52444543100000000b0000000100000040000000070000000200aabb",
    "524445430c0000000c00000001000000f3ffffff02006e6f",
    "52444543080000000d00000007000000f3ffffff",
    "52444543080000000e0000000700000020000000",
    "52444543040000000f00000007000000",
    "52444543080000001000000007000000f3ffffff",
    "524445432000000011000000040000000501000009000000000000007369787465656e207365637265747321",
    "52444543100000001200000004000000030000000010000000000000",
    "524445431d000000120002000400000003000000001000000000000000100000000000000300010203",
    "52444543080000001300000004000000f4ffffff",
    "5244454308000000140000000900000000000000",
    "5244454308000000150000000900000000000000",
    concat!("524445432000000004000000", "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"),
    concat!(
        "524445434000000005000000",
        "c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2",
        "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3",
    ),
    "52444543040000001600030007000000",
    concat!("524445432000000017000000", "c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn whole(bytes: &[u8]) -> Message {
    match Message::decode(bytes).unwrap() {
        Decoded::Message { message, bytes: used } => {
            assert_eq!(used, bytes.len());
            message
        }
        other => panic!("{other:?}"),
    }
}

/// Whatever decodes is a message that encodes and decodes to itself.
fn check(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok(Decoded::Message { message, bytes: used }) => {
            assert!(used <= bytes.len() && used <= limits::CONTROL_MESSAGE);
            assert_eq!(whole(&message.encode().unwrap()), message);
        }
        Ok(Decoded::Ignored { bytes: used, .. }) => assert!(used <= bytes.len()),
        Ok(Decoded::Partial) => {}
        Err(error) => assert_eq!(error.status, Status::Protocol),
    }
}

#[test]
fn bytes_of_every_message_are_pinned() {
    let mut kinds: Vec<u16> = Vec::new();
    for (message, golden) in samples() {
        let bytes = message.encode().unwrap();
        assert_eq!(hex(&bytes), golden, "{message:?}");
        assert_eq!(whole(&bytes), message);
        kinds.push(message.kind() as u16);
    }
    kinds.dedup();
    assert_eq!(kinds, Kind::ALL.iter().map(|kind| *kind as u16).collect::<Vec<_>>());
}

#[test]
fn a_part_of_a_message_is_never_a_message() {
    for (message, _) in samples() {
        let bytes = message.encode().unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..end]).unwrap(), Decoded::Partial, "{message:?} cut at {end}");
        }
        // The same cut, with a header that says so: fields end early. A grant without its remote key is whole.
        for body in 0..bytes.len() - HEADER_BYTES {
            let mut cut = bytes[..HEADER_BYTES + body].to_vec();
            cut[4..8].copy_from_slice(&(body as u32).to_le_bytes());
            let decoded = Message::decode(&cut);
            let grant = matches!(message, Message::KeyGrant { .. }) && body == 16;
            assert!(decoded.is_err() || grant, "{message:?} with a body of {body}: {decoded:?}");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_another_message() {
    for (message, _) in samples() {
        let bytes = message.encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            check(&other);
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let seed = 0x5eed_0001_u64;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    for round in 0..60_000 {
        let length = (random.next() % 300) as usize;
        let mut bytes = random.bytes(length);
        check(&bytes);
        if bytes.len() >= HEADER_BYTES {
            // Past the header most rounds, into every kind.
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..8].copy_from_slice(&((length - HEADER_BYTES) as u32).to_le_bytes());
            bytes[8..10].copy_from_slice(&((round % 24) as u16).to_le_bytes());
            bytes[10..12].copy_from_slice(&(random.next() as u16 & 3).to_le_bytes());
            check(&bytes);
        }
    }
}

#[test]
fn a_header_is_refused_before_anything_is_allocated() {
    let frame = |length: u32, kind: u16, flags: u16| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    };
    let most = (limits::CONTROL_MESSAGE - HEADER_BYTES) as u32;
    assert!(Header::decode(&frame(most, 7, 0)).unwrap().is_some());
    assert!(Header::decode(&frame(most + 1, 7, 0)).is_err());
    assert!(Header::decode(&frame(u32::MAX, 7, 0)).is_err());
    assert!(Header::decode(&frame(0, 7, 4)).is_err());
    assert!(Header::decode(b"RDEX").is_err());
    assert!(Header::decode(b"G").is_err());
    assert_eq!(Header::decode(b"RDE").unwrap(), None);
    // An unknown kind is fatal unless its sender says that it may be ignored.
    assert!(Message::decode(&frame(0, 999, 0)).is_err());
    let ignored = Message::decode(&frame(0, 999, FLAG_OPTIONAL)).unwrap();
    assert_eq!(ignored, Decoded::Ignored { descriptor: false, bytes: HEADER_BYTES });
    assert_eq!(Message::decode(&frame(1, 999, FLAG_OPTIONAL)).unwrap(), Decoded::Partial);
    // A descriptor where none belongs.
    assert!(Message::decode(&frame(0, 7, 2)).is_err());
}

#[test]
fn fields_that_are_too_long_are_not_sent() {
    let attach = |length| Message::Attach { request: 1, ours: Attach { route: 1, address: vec![0; length] } };
    assert_eq!(whole(&attach(limits::WORKER_ADDRESS).encode().unwrap()), attach(limits::WORKER_ADDRESS));
    assert!(attach(limits::WORKER_ADDRESS + 1).encode().is_err());
    let mut long = hello();
    long.settings = (0..65).map(|i| (format!("S{i}"), String::new())).collect();
    assert!(Message::Hello(Box::new(long)).encode().is_err());
    let text = "ä".repeat(1_000);
    let Message::Refused { text, .. } = Message::refused(&Error::new(Status::Io, text)) else { panic!() };
    assert_eq!(text.len(), limits::REFUSAL_TEXT);
}

#[test]
fn a_newer_hello_is_read_as_far_as_it_is_known() {
    let mut bytes = Message::Hello(Box::new(hello())).encode().unwrap();
    bytes.extend_from_slice(b"new field");
    let body = (bytes.len() - HEADER_BYTES) as u32;
    bytes[4..8].copy_from_slice(&body.to_le_bytes());
    assert_eq!(whole(&bytes), Message::Hello(Box::new(hello())));
    // Of another major version only the version is read.
    bytes[HEADER_BYTES] = 9;
    bytes.truncate(HEADER_BYTES + 4);
    bytes[4..8].copy_from_slice(&4u32.to_le_bytes());
    let Message::Hello(other) = whole(&bytes) else { panic!() };
    let error = hello().agree(&other, Road::Tcp).unwrap_err();
    assert_eq!(error.status, Status::Protocol);
    assert!(error.message.contains("1.0 here, 9.0 at the peer"), "{error}");
}

#[test]
fn agreement_is_the_same_from_both_sides() {
    let here = hello();
    let agree = |peer: &Hello, road| {
        let (one, two) = (here.agree(peer, road), peer.agree(&here, road));
        let view = |result: &crate::Result<super::hello::Agreement>| match result {
            Ok(agreement) => (agreement.shared, agreement.network.clone().err().map(|error| error.status)),
            Err(error) => (false, Some(error.status)),
        };
        assert_eq!(view(&one), view(&two));
        one
    };
    assert!(agree(&hello(), Road::Tcp).unwrap().shared);
    let far = Hello { host: HostId([9; 24]), ..hello() };
    let agreement = agree(&far, Road::Tcp).unwrap();
    assert!(!agreement.shared && agreement.network.is_ok());
    // A Unix socket proves the host.
    assert!(agree(&far, Road::Unix).unwrap().shared);
    let far_shared = Hello { fabrics: 1, ..far.clone() };
    assert_eq!(agree(&far_shared, Road::Tcp).unwrap_err().status, Status::Unreachable);
    let unknown = Hello { host: HostId([0; 24]), ..hello() };
    assert!(!unknown.agree(&unknown, Road::Tcp).unwrap().shared);
    // Settings matter on the network only; the message names the first that differs.
    for settings in [vec![("TCP_TX_SEG_SIZE".to_owned(), "8K".to_owned())], vec![]] {
        let near = Hello { settings: settings.clone(), ..hello() };
        let agreement = agree(&near, Road::Tcp).unwrap();
        assert!(agreement.shared && agreement.network.is_err());
        let error = agree(&Hello { settings, ..far.clone() }, Road::Tcp).unwrap_err();
        assert_eq!(error.status, Status::SettingsMismatch);
        assert!(error.message.contains("TCP_TX_SEG_SIZE is '256K' here"), "{error}");
    }
    let newer = Hello { ucx_version: (1, 16, 0), ..hello() };
    assert_eq!(agree(&newer, Road::Tcp).unwrap_err().status, Status::SettingsMismatch);
    let without = Hello { ucx_version: (0, 0, 0), ..hello() };
    assert!(agree(&without, Road::Tcp).is_ok());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let config = || ControlConfig::new([1; 16]);
    assert!(config().check().is_ok());
    let wrong: [fn(&mut ControlConfig); 7] = [
        |config| config.fabrics = 0,
        |config| config.fabrics = 8,
        |config| config.keepalive = std::time::Duration::ZERO,
        |config| config.name = "x".repeat(256),
        |config| config.max_links = 0,
        |config| config.max_output = 100,
        |config| config.settings = vec![(String::new(), "v".repeat(2_000))],
    ];
    for change in wrong {
        let mut config = config();
        change(&mut config);
        assert_eq!(config.check().unwrap_err().status, Status::InvalidArgument);
    }
}
