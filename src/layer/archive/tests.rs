//! Bytes in, members or an error out.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};

use proptest::prelude::*;

use super::{
    Error, Format, Kind, Limits, Member, Names, Problem, Reader, Streams, decompress, detect, is_archive,
};
use crate::layer::sample::tar;

fn members(bytes: &[u8], names: Names) -> Result<Vec<Member>, Error> {
    let mut reader = Reader::new(decompress(bytes).unwrap(), names, Limits::default());
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        members.push(member);
    }
    reader.finish()?;
    Ok(members)
}

fn problem(bytes: &[u8]) -> Problem {
    match members(bytes, Names::Layer) {
        Err(Error::Entry { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// A header with everything set but its checksum.
fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path("name").unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    (0..2).for_each(|_| header.set_mtime(0));
    header
}

/// An archive of extension headers (type, data) before one empty file.
fn extended(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, data) in extensions {
        let mut header = header(tar::EntryType::new(*kind), data.len() as u64);
        header.set_cksum();
        builder.append(&header, *data).unwrap();
    }
    let mut header = header(tar::EntryType::Regular, 0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

/// `KEY=VALUE` pairs, separated by `;`, as PAX records.
fn pax(pairs: &str) -> Vec<u8> {
    let mut out = String::new();
    for pair in pairs.split(';') {
        let rest = pair.len() + 2;
        let digits = |len: usize| len.to_string().len();
        let len = rest + digits(rest + digits(rest));
        out.push_str(&format!("{len} {pair}\n"));
    }
    out.into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(format: Format, bytes: &[u8]) -> Vec<u8> {
    match format {
        Format::Gzip => gzip(bytes),
        Format::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        Format::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Format::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

#[test]
fn every_format_is_read_to_its_last_member() {
    for format in [Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz] {
        let mut bytes = compressed(format, b"first ");
        bytes.extend(compressed(format, b"second"));
        assert_eq!(detect(&bytes), Some(format));
        let mut decoder = decompress(bytes.as_slice()).unwrap();
        assert_eq!(decoder.format(), Some(format));
        let mut text = String::new();
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first second", "{format:?}");
        let cut = &bytes[..bytes.len() - 3];
        assert!(decompress(cut).unwrap().read_to_end(&mut Vec::new()).is_err(), "{format:?} cut short");
    }
    assert_eq!(detect(b"plain"), None);
    assert_eq!(detect(b"\x5a\x2a\x4d\x18\0\0\0\0"), Some(Format::Zstd));
}

/// One of the decoders panics when it is asked again after this.
#[test]
fn a_damaged_stream_stays_damaged() {
    let damaged = b"BZh91AY&SY\
      \xaf\xbf\x47\x01\x00\x00\x00\x00\x00\x00\x00\x40\x00\x6f\x00\x00\x00\xe2\x44\x9e\x00\x08\
      \x08\x20\x00\x54\x44\x00\x00\x19\x3d\x41\x24\x53\x23\x4c\x27\xa8\x01\x8c\xce\x3e\x44\x84\
      \x15\xea\xf4\x32\x6d\x74\x28\xc9\x38\x35\xdc\x4e\xc2\x21\xd1\xb6\x50\xd5\x78\x6b\xc8\x93\
      \xa0\xd0\x8c\x01\x35\x2b\xe2\xee\x48\xa7\x0a\x12\x15\xf7\xe8\xfe\x20";
    let mut decoder = decompress(damaged.as_slice()).unwrap();
    for _ in 0..3 {
        assert!(decoder.read(&mut [0; 512]).is_err());
    }
    for format in [Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz] {
        let mut bytes = compressed(format, &[7; 5000]);
        let middle = bytes.len() / 2;
        bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
        let mut decoder = decompress(bytes.as_slice()).unwrap();
        for _ in 0..3 {
            assert!(decoder.read_to_end(&mut Vec::new()).is_err(), "{format:?}");
        }
    }
}

#[test]
fn archives_are_known_by_their_content() {
    let archive = tar("f a 1");
    assert!(is_archive(archive.as_slice()));
    for format in [Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz] {
        assert!(is_archive(compressed(format, &archive).as_slice()), "{format:?}");
        assert!(!is_archive(compressed(format, b"no tar").as_slice()), "{format:?}");
    }
    for no_archive in [b"".as_slice(), b"text", &[0; 1024], &[b'a'; 2000], &archive[..300], &[0x1f, 0x8b, 8]]
    {
        assert!(!is_archive(no_archive));
    }
}

#[test]
fn names_mean_what_the_caller_says() {
    let bytes = tar("d ./\nf ./.wh.a \nf .wh..wh.plnk/x 1\nf d/.wh..wh..opq ");
    let paths = |names| -> Vec<(String, Kind)> {
        let members = members(&bytes, names).unwrap().into_iter();
        members.map(|member| (String::from_utf8(member.path).unwrap(), member.kind)).collect()
    };
    assert_eq!(paths(Names::Layer), [("a".into(), Kind::Whiteout), ("d".into(), Kind::Opaque)]);
    assert_eq!(
        paths(Names::Literal),
        [
            (".wh.a".into(), Kind::File { size: 0 }),
            (".wh..wh.plnk/x".into(), Kind::File { size: 1 }),
            ("d/.wh..wh..opq".into(), Kind::File { size: 0 }),
        ]
    );
}

#[test]
fn data_is_where_the_offset_says() {
    let bytes = tar("f a 12345\nd d\nf b 678");
    for member in members(&bytes, Names::Layer).unwrap() {
        let expected: &[u8] = match (&*member.path, &member.kind) {
            (b"a", Kind::File { size: 5 }) => b"12345",
            (b"b", Kind::File { size: 3 }) => b"678",
            _ => continue,
        };
        assert!(bytes[member.offset as usize..].starts_with(expected));
    }
    let mut reader = Reader::new(bytes.as_slice(), Names::Layer, Limits::default());
    let mut read = Vec::new();
    while reader.next_member().unwrap().is_some() {
        // Only a part of the data: the rest is skipped.
        reader.data().take(4).read_to_end(&mut read).unwrap();
    }
    assert_eq!(read, b"1234678");
    assert_eq!(reader.finish().unwrap(), bytes.len() as u64);
}

#[test]
fn extensions_replace_fields_of_the_header() {
    let records = pax("path=p/q;uid=3000000;mtime=-1.5;mtime=1234567890.987654321");
    let [member] =
        <[Member; 1]>::try_from(members(&extended(&[(b'x', &records)]), Names::Layer).unwrap()).unwrap();
    assert_eq!(
        (member.path.as_slice(), member.uid, member.mtime),
        (b"p/q".as_slice(), 3_000_000, 1_234_567_890)
    );
    let long = [b'n'; 200];
    let both = extended(&[(b'x', &pax("path=p/q")), (b'L', &long), (b'g', &pax("uid=77"))]);
    let member = members(&both, Names::Layer).unwrap().remove(0);
    assert_eq!((member.path.as_slice(), member.uid), (long.as_slice(), 0));
}

#[test]
fn what_no_layer_may_hold_is_refused() {
    let huge = vec![b'a'; (1 << 20) + 1];
    for (bytes, expected) in [
        (extended(&[(b'S', b"")]), Problem::Sparse),
        (extended(&[(b'x', &pax("GNU.sparse.major=1"))]), Problem::Sparse),
        (extended(&[(b'M', b"")]), Problem::Type(b'M')),
        (extended(&[(b'x', &pax("uid=-1"))]), Problem::Range("uid")),
        (extended(&[(b'x', &pax("uid=4294967296"))]), Problem::Range("uid")),
        (extended(&[(b'x', &pax("size=-1"))]), Problem::Range("size")),
        (extended(&[(b'x', &pax("size=9223372036854775807"))]), Problem::Range("size")),
        (extended(&[(b'x', &pax("path=a\0"))]), Problem::Nul),
        (extended(&[(b'x', b"nonsense")]), Problem::Pax),
        (
            extended(&[(b'x', &huge)]),
            Problem::TooLong { what: "extension header", len: huge.len() as u64, limit: 1 << 20 },
        ),
        (tar("c null 0 0"), Problem::ZeroDevice),
        (tar("f .. 1"), Problem::NoName),
        (tar("l s "), Problem::NoName),
        (tar("h h /"), Problem::LinkTarget(String::new())),
        (tar("f .wh. "), Problem::Whiteout),
        (vec![b'a'; 512], Problem::Checksum),
        ([tar("f a 1")[..1024].to_vec(), vec![0; 512], vec![1; 512]].concat(), Problem::Checksum),
    ] {
        assert_eq!(problem(&bytes), expected);
    }
    let mut dangling = extended(&[(b'L', b"name")]);
    dangling.truncate(1024);
    assert_eq!(problem(&dangling), Problem::Dangling);
}

#[test]
fn a_huge_declared_size_costs_nothing() {
    let mut header = header(tar::EntryType::Regular, 100 << 30);
    header.set_cksum();
    let error = members(header.as_bytes(), Names::Layer).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    // An extension header of a declared gigabyte, of which nothing comes.
    let mut header = header_of_extension(1 << 30);
    header.set_cksum();
    assert!(matches!(problem(header.as_bytes()), Problem::TooLong { .. }));
}

fn header_of_extension(size: u64) -> tar::Header {
    header(tar::EntryType::XHeader, size)
}

#[test]
fn truncated_and_prolonged_streams() {
    let whole = gzip(&tar("f a 1\nf b 2"));
    assert_eq!(members(&whole, Names::Layer).unwrap().len(), 2);
    for len in 10..whole.len() {
        assert!(members(&whole[..len], Names::Layer).is_err(), "first {len} bytes");
    }
    let garbage = [whole.as_slice(), b"garbage after the last member"].concat();
    assert!(members(&garbage, Names::Layer).is_err());
    // Behind the end of the *tar*, anything may follow.
    let mut bytes = tar("f a 1");
    bytes.extend_from_slice(b"anything");
    assert_eq!(members(&bytes, Names::Layer).unwrap().len(), 1);
}

#[test]
fn what_stands_behind_streams_is_left_alone() {
    for format in [Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz] {
        let read = |bytes: &[u8]| {
            let mut text = String::new();
            Streams::new(bytes).and_then(|mut streams| streams.read_to_string(&mut text)).map(|_| text)
        };
        let whole = [compressed(format, b"one "), compressed(format, b"two")].concat();
        for behind in [b"".as_slice(), &[0; 1001], &[0; 10240], b"garbage", b"BZ", &[0x1f]] {
            assert_eq!(read(&[&whole, behind].concat()).unwrap(), "one two", "{format:?}");
        }
        for len in [whole.len() - 1, 9] {
            assert!(read(&whole[..len]).is_err(), "{format:?}: {len} of {} bytes", whole.len());
        }
        let mut damaged = whole.clone();
        let at = whole.len() / 2 - 2;
        damaged[at] ^= 0x55;
        assert!(read(&damaged).map_or(true, |text| text != "one two"), "{format:?}");
    }
    let mut text = Vec::new();
    Streams::new(b"plain".as_slice()).unwrap().read_to_end(&mut text).unwrap();
    assert_eq!(text, b"plain");
}

#[test]
fn only_a_slash_names_the_root() {
    let named = |name: &str, flag: u8| {
        let mut header = header(tar::EntryType::new(flag), 0);
        header.as_mut_bytes()[..100].fill(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        members(header.as_bytes(), Names::Literal).map(|members| members.len())
    };
    for (name, flag, expected) in [
        ("/", b'5', Ok(1)),
        ("./", b'5', Ok(0)),
        (".", b'0', Ok(0)),
        ("", b'0', Ok(0)),
        ("a/..", b'5', Ok(0)),
        ("/", b'0', Err(())),
    ] {
        assert_eq!(named(name, flag).map_err(drop), expected, "{name:?}");
    }
}

#[test]
fn limits_hold() {
    let bytes = tar("f a 1\nf b 2\nf c 3");
    let read = |limits: Limits| {
        let mut reader = Reader::new(bytes.as_slice(), Names::Layer, limits);
        while reader.next_member()?.is_some() {}
        reader.finish()
    };
    let all = Limits::default();
    assert!(read(all).is_ok());
    for limits in [
        Limits { entries: 2, ..all },
        Limits { metadata_bytes: 2, ..all },
        Limits { archive_bytes: 1000, ..all },
    ] {
        assert!(read(limits).is_err(), "{limits:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        if let Ok(decoder) = decompress(bytes.as_slice()) {
            let mut reader = Reader::new(decoder, Names::Layer, Limits::default());
            while let Ok(Some(_)) = reader.next_member() {}
        }
        is_archive(bytes.as_slice());
        let _ = super::pax::parse(&bytes);
    }

    /// A valid archive with some bytes changed and its checksums repaired gets further into the code.
    #[test]
    fn damaged_headers_never_panic(changes in prop::collection::vec((0usize..2048, any::<u8>()), 1..12)) {
        let mut bytes = extended(&[(b'x', &pax("path=p/q")), (b'L', b"long name")]);
        for (at, value) in changes {
            bytes[at] = value;
        }
        for at in (0..bytes.len()).step_by(512) {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes().copy_from_slice(&bytes[at..at + 512]);
            header.set_cksum();
            bytes[at..at + 512].copy_from_slice(header.as_bytes());
        }
        for names in [Names::Layer, Names::Literal] {
            if let Ok(members) = members(&bytes, names) {
                for member in members {
                    prop_assert_eq!(super::clean(&member.path), member.path);
                }
            }
        }
    }
}
