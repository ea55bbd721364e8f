//! An image: what the files say that its uppermost view has.

use std::collections::HashMap;

use super::catalog::{Tells, join};
use super::keep::Layered;
use super::package::{Kind, Package, Release};
use crate::layer::view::{ResolvedPath, RootView};

/// What an image has, or what the lower layers of it have.
#[derive(Debug, Clone, Default)]
pub struct State<'l> {
    /// Its distribution.
    pub release: Option<&'l Release>,
    /// Its packages: by kind, name, version and path.
    pub components: Vec<Component<'l>>,
}

/// A package of an image.
#[derive(Debug, Clone)]
pub struct Component<'l> {
    /// What the file says.
    pub package: &'l Package,
    /// The file that says it.
    pub path: &'l str,
    /// The layer that the file is in, the lowest being 0.
    pub layer: usize,
    /// Its package URL.
    pub purl: String,
    /// What it, and files beside it, say of its licence.
    pub licences: Vec<&'l str>,
    /// Lists of its files, a line each.
    pub files: Vec<&'l str>,
}

impl Component<'_> {
    /// What stays the same when the package is upgraded: two packages of one image may share that.
    pub fn place(&self) -> &str {
        match self.package.kind {
            // The folder's own name has the version.
            Kind::Python => parent(parent_if(self.path, ".egg-info")),
            Kind::Gem => parent(self.path),
            Kind::Deb if parent(self.path).ends_with("status.d") => parent(self.path),
            _ => self.path,
        }
    }
}

/// `DIR/NAME.egg-info` is such a file itself; of others the folder is meant.
fn parent_if<'p>(path: &'p str, end: &str) -> &'p str {
    if path.ends_with(end) { path } else { parent(path) }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// What the files of the view say that its layers make; `layers` are these, or more.
pub fn state<'l>(view: &RootView, layers: &'l [Layered]) -> State<'l> {
    let mut live: HashMap<&'l str, (usize, &'l [Tells])> = HashMap::new();
    for (number, layered) in layers.iter().enumerate().take(view.layers().len()) {
        for told in &layered.inventory.told {
            if view.entry(told.path.as_bytes()).is_some_and(|entry| entry.layer == Some(number)) {
                live.insert(&told.path, (number, &told.tells));
            }
        }
    }
    let merge = Merge { view, live };
    let release = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| {
        let tells = merge.at(path)?;
        tells.iter().find_map(|tells| if let Tells::Release(release) = tells { Some(release) } else { None })
    });
    let mut components: Vec<Component<'l>> = Vec::new();
    for (path, (layer, tells)) in &merge.live {
        for tells in *tells {
            let Tells::Packages(packages) = tells else { continue };
            components.extend(packages.iter().map(|package| merge.component(package, path, *layer, release)));
        }
    }
    components.sort_by(|a, b| key(a).cmp(&key(b)));
    State { release, components }
}

fn key<'c>(component: &'c Component<'_>) -> (Kind, &'c str, &'c str, &'c str, &'c str) {
    let Package { kind, name, version, .. } = component.package;
    (*kind, name, version, component.path, &component.purl)
}

struct Merge<'v, 'l> {
    view: &'v RootView,
    live: HashMap<&'l str, (usize, &'l [Tells])>,
}

impl<'l> Merge<'_, 'l> {
    /// What is said at a path, through symlinks.
    fn at(&self, path: &str) -> Option<&'l [Tells]> {
        if let Some((_, tells)) = self.live.get(path) {
            return Some(tells);
        }
        let found = self.view.resolve(path.as_bytes(), true).ok().filter(ResolvedPath::exists)?;
        self.live.get(std::str::from_utf8(&found.existing).ok()?).map(|(_, tells)| *tells)
    }

    fn component(
        &self,
        package: &'l Package,
        path: &'l str,
        layer: usize,
        release: Option<&'l Release>,
    ) -> Component<'l> {
        let mut component = Component {
            package,
            path,
            layer,
            purl: String::new(),
            licences: package.licences.iter().map(String::as_str).collect(),
            files: Vec::new(),
        };
        if !package.files.is_empty() {
            component.files.push(&package.files);
        }
        let mut origin = None;
        for beside in beside(package, path) {
            for tells in self.at(&beside).unwrap_or_default() {
                match tells {
                    Tells::Files(files) => component.files.push(files),
                    Tells::Licences(licences) => {
                        component.licences.extend(licences.iter().map(String::as_str));
                    }
                    Tells::Origin(url) => origin = Some(url),
                    Tells::Packages(_) | Tells::Release(_) => {}
                }
            }
        }
        component.purl = match origin {
            Some(url) => {
                let mut package = package.clone();
                package.qualify("vcs_url", url);
                package.purl(release)
            }
            None => package.purl(release),
        };
        component
    }
}

/// Files that tell more of a package.
fn beside(package: &Package, path: &str) -> Vec<String> {
    let dir = parent(path);
    match package.kind {
        Kind::Deb => {
            let Package { name, .. } = package;
            let database = dir.strip_suffix("/status.d");
            let root = database.unwrap_or(dir).strip_suffix("var/lib/dpkg");
            let root = root.or_else(|| database.unwrap_or(dir).strip_suffix("usr/lib/dpkg")).unwrap_or("");
            let copyright = join(root, &format!("usr/share/doc/{name}/copyright"));
            if database.is_some() {
                return vec![format!("{path}.md5sums"), copyright];
            }
            let arch = package.qualifier("arch").unwrap_or("");
            vec![format!("{dir}/info/{name}:{arch}.list"), format!("{dir}/info/{name}.list"), copyright]
        }
        Kind::Python if !path.ends_with(".egg-info") => ["RECORD", "installed-files.txt", "direct_url.json"]
            .iter()
            .map(|name| format!("{dir}/{name}"))
            .collect(),
        _ => Vec::new(),
    }
}
