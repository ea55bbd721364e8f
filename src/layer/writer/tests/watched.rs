//! A scanner sees every byte of a layer, wherever segments are cut.

use super::remembered::{as_file, remembering};
use super::*;
use crate::layer::writer::layout::MAX_SEGMENT;
use crate::tripwire::{Form, Found, Needles, Scanner, What};

const VALUE: &str = "s3cr3t-of-27-bytes-in-a-file";

fn scanner() -> Scanner {
    let mut needles = Needles::default();
    needles.add("it", VALUE.as_bytes());
    Scanner::new(&needles)
}

fn found(entries: Vec<Entry>, compression: Compression) -> Vec<Found> {
    let written = write_watched(entries, &WriteOptions { compression }, Some(&scanner()), &mut io::sink());
    written.unwrap().found
}

fn in_file(path: &str, form: Form) -> Found {
    Found { path: path.to_owned(), what: What::Given { name: "it".to_owned(), form } }
}

const COMPRESSIONS: [Compression; 4] = [
    Compression::None,
    Compression::Gzip { level: 1 },
    Compression::Zstd { level: 1 },
    Compression::Estargz { level: 1 },
];

#[test]
fn a_value_is_found_at_every_place_around_a_border() {
    for at in (MAX_SEGMENT as usize - 40..MAX_SEGMENT as usize + 8).step_by(3) {
        let mut content = vec![b'.'; 3 * MAX_SEGMENT as usize];
        content[at..at + VALUE.len()].copy_from_slice(VALUE.as_bytes());
        let entries = vec![file("a", b"nothing"), file("b", &content), file("c", b"nothing")];
        assert_eq!(found(entries, Compression::None), [in_file("b", Form::Plain)], "{at}");
    }
}

#[test]
fn every_form_of_a_layer_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("me:{VALUE}"));
    let mut entries = several_segments(dir.path());
    entries.push(file("many/z", base64.as_bytes()));
    entries.push(file("many/name", b"in a small file: s3cr3t-of-27-bytes-in-a-file"));
    entries.push(entry(VALUE, EntryKind::Directory));
    let expected =
        [in_file("many/name", Form::Plain), in_file("many/z", Form::Base64), in_file(VALUE, Form::Plain)];
    for compression in COMPRESSIONS {
        assert_eq!(found(entries.clone(), compression), expected, "{compression:?}");
        assert_eq!(found(vec![file("only", VALUE.as_bytes())], compression), [in_file("only", Form::Plain)]);
    }
}

/// What an earlier layer had may have been a secret to nobody then.
#[test]
fn what_is_taken_from_an_earlier_layer_is_searched_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = several_segments(dir.path());
    entries.push(file("a", VALUE.as_bytes()));
    let compression = Compression::Gzip { level: 1 };
    let (first, blob) = remembering(&entries, compression, None);
    assert_eq!(first.found, []);
    let earlier = Remembered::new(as_file(&blob), &first.segments);
    entries.push(file("z", b"more"));
    let options = WriteOptions { compression };
    let with = (Some(&earlier), Some(&scanner()));
    let mut again = Vec::new();
    let written = write_remembering(entries.clone(), &options, with, &mut again).unwrap();
    assert_eq!(written.found, [in_file("a", Form::Plain)]);
    assert!(again == super::written(entries, compression).1, "the same bytes as ever");
}
