//! Which file imports which. A path leads to the file that defines what it names, through `super`,
//! imported modules, and re-exports (`pub use`).

use super::modules::{Crate, Module, ModulePath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The target of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Module(ModulePath),
    /// An item that this module defines.
    Item(ModulePath),
}

/// A name is followed this many times at most, so that one that refers to itself ends.
const STEPS_MAX: usize = 16;

/// The files that each file imports, each with a line that imports it.
pub type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, usize>>;

impl Crate {
    /// The target of `path`, as written in the module at `place`. `None`: another crate.
    pub fn resolve(&self, place: &[String], path: &[String]) -> Option<Target> {
        self.follow(place, path, STEPS_MAX)
    }

    fn follow(&self, place: &[String], path: &[String], steps: usize) -> Option<Target> {
        let steps = steps.checked_sub(1)?;
        let mut at = place.to_vec();
        let mut rest = path;
        let mut is_of_this_crate = false;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()?),
                _ => break,
            }
            (rest, is_of_this_crate) = (behind, true);
        }
        while let Some((name, behind)) = rest.split_first() {
            match self.look_up(&at, name, behind.is_empty(), steps) {
                Some(Target::Module(place)) => at = place,
                Some(item) => return Some(item),
                // A macro may define it.
                None => return is_of_this_crate.then_some(Target::Item(at)),
            }
            (rest, is_of_this_crate) = (behind, true);
        }
        Some(Target::Module(at))
    }

    /// The target of `name` in the module at `place`. The last name of a path is an item rather
    /// than a module.
    fn look_up(&self, place: &[String], name: &str, is_last: bool, steps: usize) -> Option<Target> {
        let module = self.modules.get(place)?;
        let child = [place, &[name.to_string()]].concat();
        let is_item = module.items.contains(name);
        if self.modules.contains_key(&child) && !(is_last && is_item) {
            return Some(Target::Module(child));
        }
        if is_item {
            return Some(Target::Item(place.to_vec()));
        }
        let named = module.uses.iter().filter(|one| one.name.as_deref() == Some(name));
        let direct = named.filter_map(|one| self.follow(place, &one.path, steps));
        let globs = module.uses.iter().filter(|one| one.name.is_none());
        let through = globs.filter_map(|one| match self.follow(place, &one.path, steps)? {
            Target::Module(other) if other != place => {
                self.look_up(&other, name, is_last, steps.checked_sub(1)?)
            }
            _ => None,
        });
        direct.chain(through).next()
    }

    /// Which file imports which, without tests. A re-export imports nothing, unless the name is
    /// also used here. The name of a module imports nothing either, but names reached through it
    /// do.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (place, module) in &self.modules {
            let mut add = |target: Option<Target>, is_glob: bool, line: usize| {
                let of = match target {
                    Some(Target::Item(of)) => of,
                    Some(Target::Module(of)) if is_glob => of,
                    _ => return,
                };
                let file = self.modules.get(&of).map_or(&module.file, |module| &module.file);
                if *file != module.file {
                    let of_file = imports.entry(module.file.clone()).or_default();
                    of_file.entry(file.clone()).or_insert(line);
                }
            };
            for one in module.uses.iter().filter(|one| !one.is_test) {
                let is_used = one.name.as_ref().is_some_and(|name| module.words.contains(name));
                if !one.is_reexport || is_used {
                    add(self.resolve(place, &one.path), one.name.is_none(), one.line);
                }
            }
            for one in module.mentions.iter().filter(|one| !one.is_test) {
                add(self.resolve(place, &one.path), false, one.line);
            }
        }
        imports
    }

    /// The top-level modules of everything that the file at `file` names, including tests, each
    /// with its line.
    pub fn modules_named(&self, file: &Path) -> Vec<(String, usize)> {
        let mut modules = Vec::new();
        for (place, module) in self.modules.iter().filter(|(_, module)| module.file == file) {
            for (path, line) in named(module) {
                let module = self.absolute(place, path).and_then(|path| path.into_iter().next());
                modules.extend(module.map(|module| (module, line)));
            }
        }
        modules
    }

    /// A path from the crate's root, as written. `None`: in another crate.
    fn absolute(&self, place: &[String], path: &[String]) -> Option<ModulePath> {
        let up = path.iter().take_while(|name| *name == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([place, &path[1..]].concat()),
            "super" => Some([&place[..place.len().checked_sub(up)?], &path[up..]].concat()),
            _ => None,
        }
    }
}

fn named(module: &Module) -> impl Iterator<Item = (&[String], usize)> {
    let uses = module.uses.iter().map(|one| (one.path.as_slice(), one.line));
    uses.chain(module.mentions.iter().map(|one| (one.path.as_slice(), one.line)))
}

/// The circles of files that import each other, directly or through others.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<&Path>> {
    let reach = |from: &Path| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_path_buf()]);
        while let Some(file) = left.pop() {
            for next in imports.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.clone()) {
                    left.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<PathBuf>> =
        imports.keys().map(|file| (file.as_path(), reach(file))).collect();
    let mut circles: Vec<BTreeSet<&Path>> = Vec::new();
    for (file, seen) in reached.iter().filter(|(file, seen)| seen.contains(**file)) {
        if !circles.iter().any(|circle| circle.contains(file)) {
            let is_back = |(_, other): &(_, &BTreeSet<PathBuf>)| other.contains(*file);
            let within = reached.iter().filter(|(other, _)| seen.contains(**other));
            circles.push(within.filter(is_back).map(|(other, _)| *other).collect());
        }
    }
    circles
}
