//! Tars and listings for tests, as text.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::archive::Limits;
use super::index::{Index, Kind};
use super::view::RootView;

/// A tar from lines such as `d usr 0755`, `f etc/passwd text`, `l lib usr/lib` (symlink), `h b a` (hard
/// link), `c dev/null 1 3`, `b dev/sda 8 0`, `p fifo`. Names go into headers as they stand.
pub(super) fn tar(lines: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (name, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        append(&mut builder, kind, name, argument);
    }
    builder.into_inner().unwrap()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, kind: &str, name: &str, argument: &str) {
    let mut header = tar::Header::new_gnu();
    if name.len() > 100 {
        builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
    }
    let in_header = &name[..name.len().min(100)];
    header.as_old_mut().name[..in_header.len()].copy_from_slice(in_header.as_bytes());
    header.set_mode(if kind == "d" { 0o755 } else { 0o644 });
    header.set_mtime(1000);
    let mut content = "";
    let entry_type = match kind {
        "d" => {
            if !argument.is_empty() {
                header.set_mode(u32::from_str_radix(argument, 8).unwrap());
            }
            tar::EntryType::Directory
        }
        "f" => {
            content = argument;
            tar::EntryType::Regular
        }
        "l" | "h" => {
            header.as_old_mut().linkname[..argument.len()].copy_from_slice(argument.as_bytes());
            if kind == "l" { tar::EntryType::Symlink } else { tar::EntryType::Link }
        }
        "c" | "b" => {
            let (major, minor) = argument.split_once(' ').unwrap();
            header.set_device_major(major.parse().unwrap()).unwrap();
            header.set_device_minor(minor.parse().unwrap()).unwrap();
            if kind == "c" { tar::EntryType::Char } else { tar::EntryType::Block }
        }
        "p" => tar::EntryType::Fifo,
        other => panic!("unknown kind {other}"),
    };
    header.set_entry_type(entry_type);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content.as_bytes()).unwrap();
}

/// The index of [`tar`]`(lines)`.
pub(super) fn index(lines: &str) -> Index {
    Index::read(tar(lines).as_slice(), Limits::default()).unwrap().index
}

/// The root that layers of these lines make, lowest first.
pub(super) fn view(layers: &[&str]) -> RootView {
    RootView::new(layers.iter().map(|lines| Arc::new(index(lines))).collect())
}

/// One line for each path: `d usr 755`, `f etc/passwd 644 #0` (with the layer's number).
pub(super) fn listing(view: &RootView) -> String {
    let mut out = String::new();
    for entry in view.walk(b"") {
        let path = String::from_utf8_lossy(entry.path);
        let layer = entry.layer.map_or("-".to_owned(), |layer| layer.to_string());
        let mode = entry.node.mode;
        let line = match entry.node.kind {
            Kind::Directory => format!("d {path} {mode:o} #{layer}\n"),
            Kind::File { size, .. } => format!("f {path} {size} #{layer}\n"),
            Kind::Symlink(target) => format!("l {path} {} #{layer}\n", String::from_utf8_lossy(target)),
            Kind::Fifo => format!("p {path} #{layer}\n"),
            Kind::CharDevice { major, minor } => format!("c {path} {major} {minor} #{layer}\n"),
            Kind::BlockDevice { major, minor } => format!("b {path} {major} {minor} #{layer}\n"),
        };
        out.push_str(&line);
    }
    out
}

/// `text` without the indentation of a test's source.
pub(super) fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}
