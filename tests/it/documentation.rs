//! Links of the documentation lead somewhere, in the repository and in the site that is made of it, and every page is listed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|name| name == "md")).collect()
}

pub(crate) fn pages() -> Vec<PathBuf> {
    ["", "docs", "docs/checks", "packaging", "tests", "fuzz"]
        .iter()
        .flat_map(|folder| pages_in(folder))
        .collect()
}

/// Without what stands in fences and between backticks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// Where the links of a page lead: `file#anchor`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let ends = prose.match_indices("](");
    ends.filter_map(|(at, _)| Some(prose[at + 2..].split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let heading = heading.to_lowercase();
        let kept = heading.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        });
        kept.collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = match to.extension().is_some_and(|name| name == "md") && !anchor.is_empty() {
                true => fs::read_to_string(&to).is_ok_and(|text| anchors(&text).contains(anchor)),
                false => to.exists(),
            };
            if !is_there {
                wrong.push(format!("{}: {link}", page.strip_prefix(repository()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_summary_has_every_page() {
    let summary = fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&summary).into_iter().collect();
    let docs = repository().join("docs");
    let relative = |path: PathBuf| path.strip_prefix(&docs).unwrap().to_str().unwrap().to_owned();
    let there: BTreeSet<String> = ["docs", "docs/checks"]
        .into_iter()
        .flat_map(pages_in)
        .map(relative)
        .filter(|name| name != "SUMMARY.md")
        .collect();
    assert_eq!(listed, there);
}

/// What the attributes `href` and `src` of a page say.
fn references(html: &str) -> impl Iterator<Item = &str> {
    ["href=\"", "src=\""].into_iter().flat_map(move |attribute| {
        html.match_indices(attribute)
            .filter_map(move |(at, _)| html[at + attribute.len()..].split('"').next())
    })
}

#[test]
fn links_of_the_site_lead_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    // mdBook is what `tests/run` puts into target/.
    let made =
        Command::new(repository().join("packaging/site/make")).arg("--out").arg(&site).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut pages = vec![site.clone()];
    let (mut followed, mut wrong) = (0, BTreeSet::new());
    while let Some(path) = pages.pop() {
        if path.is_dir() {
            pages.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // For what a server does not find, mdBook makes a page whose links are those of the site's root.
        if path.extension().is_none_or(|name| name != "html") || path.ends_with("404.html") {
            continue;
        }
        let html = fs::read_to_string(&path).unwrap();
        for reference in references(&html).filter(|to| !to.contains(':') && !to.starts_with('#')) {
            followed += 1;
            let (file, anchor) = reference.split_once('#').unwrap_or((reference, ""));
            let to = path.parent().unwrap().join(file);
            let is_there = match anchor.is_empty() || to.extension().is_none_or(|name| name != "html") {
                true => to.exists(),
                false => fs::read_to_string(&to).is_ok_and(|text| text.contains(&format!("id=\"{anchor}\""))),
            };
            if !is_there {
                wrong.insert(format!("{}: {reference}", path.strip_prefix(&site).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(followed > 1_000, "{followed}");
    assert!(site.join("repository/examples/build.rs.html").exists());
}
