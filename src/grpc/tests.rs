//! Calls to a server that says, frame by frame, what a test wants.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::frame::{self, flag, kind, setting};
use super::test_server::{GOOD, Peer, block, patient_server, prefixed, server};
use super::{Address, Channel, Code, Error};
use crate::http::{Environment, Settings};

/// What a call comes to when the first answer on each connection is `script`'s.
fn called(script: impl Fn(&mut Peer, u32) + Send + Sync + 'static) -> Result<Vec<u8>, Error> {
    let channel = server(move |peer| {
        while let Some(asked) = peer.asked() {
            script(peer, asked.stream);
        }
    });
    channel.unary("/s/M", b"ask", 1000)
}

fn told(result: Result<Vec<u8>, Error>) -> String {
    let text = match result {
        Ok(message) => return format!("ok {}", String::from_utf8_lossy(&message)),
        Err(error) => error.to_string(),
    };
    // The port is another each time.
    text.split_once("` ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn what_a_call_says() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&heard);
    let channel = server(move |peer| {
        while let Some(asked) = peer.asked() {
            peer.answer(asked.stream, b"yes");
            its.lock().unwrap().push((peer.number, asked.headers, asked.body));
        }
    });
    for _ in 0..2 {
        assert_eq!(channel.unary("/s/M", b"ask", 1000).unwrap(), b"yes");
    }
    let heard = heard.lock().unwrap();
    // One connection for both.
    assert_eq!(heard.iter().map(|(number, ..)| *number).collect::<Vec<usize>>(), [0, 0]);
    let (_, headers, body) = &heard[1];
    assert_eq!(body, b"\0\0\0\0\x03ask");
    let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(value(":path"), Some("/s/M"));
    assert_eq!(value("te"), Some("trailers"));
    assert_eq!(value("grpc-timeout"), Some("80000m"));
    assert_eq!(value("authorization"), Some("Bearer hidden-word"));
    assert!(!format!("{channel:?}").contains("hidden"));
}

#[test]
fn answers_in_every_form() {
    let split = called(|peer, stream| {
        let headers = block(&[&GOOD[..], &[("date", "today")]].concat());
        let (one, two) = headers.split_at(7);
        let padded = [&[2][..], one, &[0, 0]].concat();
        peer.say(kind::HEADERS, flag::PADDED, stream, &padded);
        peer.say(kind::CONTINUATION, 0, stream, &two[..3]);
        peer.say(kind::CONTINUATION, flag::END_HEADERS, stream, &two[3..]);
        for byte in prefixed(b"in pieces") {
            peer.say(kind::DATA, flag::PADDED, stream, &[3, byte, 0, 0, 0]);
            // Of a kind that nobody knows, and for a call that nobody made.
            peer.say(0x77, 0xff, 0, b"?");
            peer.say(kind::WINDOW_UPDATE, 0, 99, &[0, 0, 0, 1]);
        }
        peer.end(stream);
    });
    assert_eq!(told(split), "ok in pieces");
    let early = called(|peer, stream| {
        peer.say(kind::HEADERS, flag::END_HEADERS, stream, &block(&[(":status", "103")]));
        peer.answer(stream, b"late");
    });
    assert_eq!(told(early), "ok late");
    let pinged = called(|peer, stream| {
        peer.say(kind::PING, 0, 0, b"12345678");
        loop {
            let frame = peer.next().unwrap();
            if frame.kind == kind::PING {
                assert_eq!((frame.flags, &*frame.payload), (flag::ACK, &b"12345678"[..]));
                break;
            }
        }
        peer.answer(stream, b"pong");
    });
    assert_eq!(told(pinged), "ok pong");
}

#[test]
fn how_calls_end() {
    let only = |headers: &'static [(&str, &str)]| {
        told(called(move |peer, stream| {
            peer.say(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block(headers));
        }))
    };
    let status = |number: &'static str, message: &'static str| {
        &*Vec::from([GOOD[0], GOOD[1], ("grpc-status", number), ("grpc-message", message)]).leak()
    };
    assert_eq!(only(status("5", "no%20%C3%A4\x1b[2J")), "answers NOT_FOUND (no ä�[2J)");
    assert_eq!(
        only(status("16", "for Bearer hidden-word")),
        "answers UNAUTHENTICATED: it wants credentials, or others (for Bearer …)"
    );
    assert_eq!(only(status("99", "")), "answers UNKNOWN");
    assert_eq!(
        only(&[(":status", "403"), ("content-type", "text/html")]),
        "answers PERMISSION_DENIED: these credentials may not do that (HTTP status 403)"
    );
    assert_eq!(only(&[(":status", "503")]), "answers UNAVAILABLE (HTTP status 503)");
    assert_eq!(
        only(&[(":status", "200"), ("content-type", "text/html")]),
        "does not speak gRPC: it answers with content of the type `text/html`"
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_hangs() {
    let bad = |script: fn(&mut Peer, u32)| told(called(script));
    let http = bad(|peer, _| drop(peer.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert_eq!(http, "does not speak gRPC: it answers in HTTP/1");
    let compressed = bad(|peer, stream| {
        peer.begin(stream);
        peer.say(kind::DATA, 0, stream, &[1, 0, 0, 0, 1, 0]);
    });
    assert_eq!(compressed, "does not speak gRPC: a message is compressed, which was not agreed on");
    let long = bad(|peer, stream| peer.answer(stream, &[b'x'; 1001]));
    assert_eq!(long, "does not speak gRPC: a message has 1001 bytes, which is too much");
    let headless = bad(|peer, stream| peer.say(kind::DATA, 0, stream, &prefixed(b"x")));
    assert_eq!(headless, "does not speak gRPC: an answer has no headers");
    let pushed = bad(|peer, stream| peer.say(kind::PUSH_PROMISE, 0, stream, &[0; 8]));
    assert_eq!(pushed, "does not speak gRPC: it pushes, which it was asked not to");
    let large = bad(|peer, _| drop(peer.stream.write_all(&[0xff; 9])));
    assert_eq!(large, "does not speak gRPC: a frame is longer than was agreed on");
    let endless = bad(|peer, stream| {
        peer.say(kind::HEADERS, 0, stream, &block(&GOOD));
        for _ in 0..100 {
            peer.say(kind::CONTINUATION, 0, stream, &[0; 16 << 10]);
        }
    });
    assert_eq!(endless, "does not speak gRPC: its headers are too long");
    let idle = bad(|peer, _| {
        for _ in 0..20_000 {
            peer.say(kind::DATA, 0, 99, b"");
        }
    });
    assert_eq!(idle, "does not speak gRPC: it sends nothing but empty frames");
    let packed = bad(|peer, stream| peer.say(kind::HEADERS, flag::END_HEADERS, stream, &[0x80]));
    assert_eq!(packed, "does not speak gRPC: its headers cannot be read");
    let twice = bad(|peer, stream| {
        peer.begin(stream);
        peer.say(kind::DATA, 0, stream, &[prefixed(b"a"), prefixed(b"b")].concat());
        peer.end(stream);
    });
    assert_eq!(twice, "does not speak gRPC: an answer has several messages");
    // Tried twice, as each of these may be over a moment later.
    let closed = bad(|peer, stream| {
        peer.begin(stream);
        let _ = peer.stream.shutdown(std::net::Shutdown::Both);
    });
    assert_eq!(closed, "cannot be asked: the connection was closed");
    let cut = bad(|peer, stream| {
        peer.begin(stream);
        peer.say(kind::DATA, flag::END_STREAM, stream, &prefixed(b"x")[..3]);
    });
    assert_eq!(cut, "cannot be asked: the answer broke off");
    let began = Instant::now();
    let quiet = patient_server(Duration::from_millis(300), |peer| {
        if let Some(asked) = peer.asked() {
            peer.begin(asked.stream);
        }
        while peer.next().is_some() {}
    });
    assert_eq!(told(quiet.unary("/s/M", b"ask", 1000)), "cannot be asked: the connection stalled");
    assert!(began.elapsed() < Duration::from_secs(5));
    let nobody = Channel::new(
        Address::parse("grpc://127.0.0.1:1").unwrap(),
        Vec::new(),
        Settings::with_environment(Environment::empty()),
    );
    assert_eq!(told(nobody.unary("/s/M", b"", 1)), "cannot be asked: connection refused");
}

#[test]
fn what_was_refused_is_asked_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    for (name, refuse) in [
        (
            "reset",
            (|peer, stream| peer.say(kind::RST_STREAM, 0, stream, &[0, 0, 0, 7])) as fn(&mut Peer, u32),
        ),
        ("unavailable", |peer, stream| {
            let headers = block(&[GOOD[0], GOOD[1], ("grpc-status", "14")]);
            peer.say(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &headers);
        }),
        ("farewell", |peer, _| peer.say(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0])),
        ("closed", |peer, _| drop(peer.stream.shutdown(std::net::Shutdown::Both))),
    ] {
        calls.store(0, Ordering::SeqCst);
        let its = Arc::clone(&calls);
        let channel = server(move |peer| {
            while let Some(asked) = peer.asked() {
                match its.fetch_add(1, Ordering::SeqCst) {
                    0 => refuse(peer, asked.stream),
                    _ => peer.answer(asked.stream, b"yes"),
                }
            }
        });
        assert_eq!(told(channel.unary("/s/M", b"ask", 1000)), "ok yes", "{name}");
    }
}

#[test]
fn a_server_that_leaves_answers_what_it_has() {
    let connections = Arc::new(AtomicUsize::new(0));
    let its = Arc::clone(&connections);
    let channel = server(move |peer| {
        its.fetch_max(peer.number + 1, Ordering::SeqCst);
        while let Some(asked) = peer.asked() {
            // As servers do that are stopped: the call that is there is the last.
            peer.say(kind::GOAWAY, 0, 0, &[&asked.stream.to_be_bytes()[..], &[0; 4]].concat());
            peer.answer(asked.stream, b"yes");
        }
    });
    for _ in 0..3 {
        assert_eq!(told(channel.unary("/s/M", b"ask", 1000)), "ok yes");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

/// What a server takes of a large message, when it opens its windows by little and little.
#[test]
fn windows_are_kept() {
    const SIZE: usize = 300_000;
    let channel = server(|peer| {
        let mut settings = Vec::new();
        frame::put_settings(
            &mut settings,
            &[(setting::INITIAL_WINDOW_SIZE, 1000), (setting::MAX_FRAME_SIZE, 16 << 10)],
        );
        peer.stream.write_all(&settings).unwrap();
        // The client has 65,535 bytes for the connection, and learns of the small window when it may have used as much of the call's.
        let (mut room, mut all_room) = (65_535_i64, 65_535_i64);
        let (mut taken, mut stream) = (0, 0);
        while let Some(frame) = peer.next() {
            match frame.kind {
                kind::SETTINGS if frame.has(flag::ACK) => room -= 65_535 - 1000,
                kind::DATA => {
                    stream = frame.stream;
                    let length = frame.payload.len() as i64;
                    (room, all_room, taken) = (room - length, all_room - length, taken + frame.payload.len());
                    assert!(frame.payload.len() <= 16 << 10 && all_room >= 0, "{room} {all_room}");
                    if frame.has(flag::END_STREAM) {
                        break;
                    }
                }
                _ => continue,
            }
            if room <= 0 && stream != 0 {
                let more = 7_000 - room;
                peer.say(kind::WINDOW_UPDATE, 0, stream, &(more as u32).to_be_bytes());
                room += more;
            }
            if all_room < 10_000 {
                peer.say(kind::WINDOW_UPDATE, 0, 0, &20_000_u32.to_be_bytes());
                all_room += 20_000;
            }
        }
        assert_eq!(taken, SIZE + 5);
        peer.answer(stream, b"all");
        while peer.next().is_some() {}
    });
    assert_eq!(told(channel.unary("/s/M", &vec![b'x'; SIZE], 1000)), "ok all");
}

/// More than a window of data comes only because the client opens it again.
#[test]
fn windows_are_opened() {
    const PIECE: usize = 200 << 10;
    let channel = server(|peer| {
        let Some(asked) = peer.asked() else { return };
        peer.begin(asked.stream);
        // The windows that the client named: 8 MiB for the call, and for the connection.
        let (mut room, mut all_room) = (8_i64 << 20, 8_i64 << 20);
        for _ in 0..100 {
            let message = prefixed(&vec![7; PIECE]);
            while room.min(all_room) < message.len() as i64 {
                let frame = peer.next().unwrap();
                if let (kind::WINDOW_UPDATE, Some(more)) = (frame.kind, frame.number()) {
                    match frame.stream {
                        0 => all_room += i64::from(more),
                        _ => room += i64::from(more),
                    }
                }
            }
            (room, all_room) = (room - message.len() as i64, all_room - message.len() as i64);
            peer.say(kind::DATA, 0, asked.stream, &message);
        }
        peer.end(asked.stream);
        while peer.next().is_some() {}
    });
    let mut call = channel.stream("/s/M", PIECE).unwrap();
    call.send(b"", true).unwrap();
    let mut count = 0;
    while let Some(message) = call.receive().unwrap() {
        assert_eq!(message.len(), PIECE);
        count += 1;
    }
    assert_eq!(count, 100);
}

#[test]
fn a_server_that_has_enough_ends_the_sending() {
    let channel = server(|peer| {
        // With the first piece it knows all, and reads no further.
        while let Some(frame) = peer.next() {
            if frame.kind == kind::DATA {
                peer.answer(frame.stream, b"enough");
            }
        }
    });
    let mut call = channel.stream("/s/M", 1000).unwrap();
    let piece = vec![0; 50_000];
    let sent = (0..100).take_while(|_| call.send(&piece, false).unwrap()).count();
    assert!(sent < 100, "{sent}");
    assert_eq!(call.only().unwrap(), b"enough");
}

/// What a call comes to whose server does that without pause after the call began.
fn flooded(flood: fn(&mut Peer, u32)) -> Result<Vec<u8>, Error> {
    let channel = patient_server(Duration::from_millis(100), move |peer| {
        let Some(asked) = peer.asked() else { return };
        peer.begin(asked.stream);
        while !peer.is_gone {
            flood(peer, asked.stream);
        }
    });
    channel.unary("/s/M", b"ask", 1000)
}

#[test]
fn a_server_that_says_nothing_without_pause_ends_the_call() {
    let windows = flooded(|peer, _| peer.say(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    assert_eq!(told(windows), "cannot be asked: the connection stalled");
    let nothing = flooded(|peer, stream| peer.say(kind::DATA, 0, stream, b""));
    assert_eq!(told(nothing), "cannot be asked: the call takes too long");
    // The connection's window opens, and that of the call does not.
    let channel = patient_server(Duration::from_millis(100), |peer| {
        let mut settings = Vec::new();
        frame::put_settings(&mut settings, &[(setting::INITIAL_WINDOW_SIZE, 0)]);
        peer.stream.write_all(&settings).unwrap();
        while !peer.is_gone {
            peer.say(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
        }
    });
    let mut call = channel.stream("/s/M", 1000).unwrap();
    let sent = call.send(&vec![0; 300_000], true).map(|_| Vec::new());
    assert_eq!(told(sent), "cannot be asked: the connection stalled");
}

#[test]
fn what_comes_while_we_send_is_not_kept_without_end() {
    let channel = server(|peer| {
        while let Some(frame) = peer.next() {
            if frame.kind == kind::HEADERS {
                peer.begin(frame.stream);
                for _ in 0..100 {
                    peer.say(kind::DATA, 0, frame.stream, &[0; 16 << 10]);
                }
            }
        }
    });
    let mut call = channel.stream("/s/M", 1000).unwrap();
    // More than the windows that nobody opens.
    let sent = call.send(&vec![0; 300_000], true).map(|_| Vec::new());
    assert_eq!(told(sent), "does not speak gRPC: it sends more than there may be");
}

#[test]
fn what_a_server_says_in_leaving_is_fit_to_be_shown() {
    let left = called(|peer, _| {
        peer.say(kind::GOAWAY, 0, 0, &[&[0; 8][..], b"words\x1b[2J"].concat());
    });
    assert_eq!(told(left), "cannot be asked: the server leaves: words\u{fffd}[2J");
}

#[test]
fn codes_have_their_numbers() {
    assert_eq!(Code::from_number(5), Code::NotFound);
    assert_eq!(Code::from_number(8).to_string(), "RESOURCE_EXHAUSTED");
    assert_eq!(Code::from_number(1 << 40), Code::Unknown);
}
