//! The modules of a crate as its sources declare them, and what each defines, imports and names.

use super::tokens::{Spot, Token, tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The path of a module in its crate: `["flow", "table"]`; the root is empty.
pub type ModulePath = Vec<String>;

/// A name that a `use` introduces.
#[derive(Clone, Debug)]
pub struct Use {
    /// The path as written: it may begin with `crate`, `self` and `super`.
    pub path: Vec<String>,
    /// Its name here; `None` for a glob import.
    pub name: Option<String>,
    /// Whether it is re-exported: `pub use`.
    pub is_reexport: bool,
    /// Whether it is in test code.
    pub is_test: bool,
    pub line: usize,
}

/// A path in code: `crate::flow::Chunk`.
#[derive(Clone, Debug)]
pub struct Mention {
    pub path: Vec<String>,
    pub is_test: bool,
    pub line: usize,
}

/// A module: a file, or inline in one.
#[derive(Clone, Debug, Default)]
pub struct Module {
    pub file: PathBuf,
    /// Types, functions, traits, constants, statics and macros that it defines.
    pub items: BTreeSet<String>,
    pub uses: Vec<Use>,
    pub mentions: Vec<Mention>,
    /// Every word of its code, except tests and `use`.
    pub words: BTreeSet<String>,
}

/// A crate.
#[derive(Clone, Debug, Default)]
pub struct Crate {
    pub modules: BTreeMap<ModulePath, Module>,
}

/// The position of the reader.
#[derive(Clone)]
struct Context {
    place: ModulePath,
    file: PathBuf,
    /// The folder of this module's children.
    folder: PathBuf,
    is_test: bool,
    /// Whether definitions here belong to the module, and not to a function or block.
    is_top: bool,
}

/// Files that attributes name for a module.
#[derive(Clone, Debug, Default)]
struct Named {
    /// `#[path = ...]`
    path: Option<String>,
    /// `#[cfg_attr(..., path = ...)]`: an alternative.
    other: Option<String>,
}

/// Reads a file; `None` if there is none.
pub type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Crate {
    /// The crate whose root is the file `root`.
    pub fn read(root: &Path, read: Read<'_>) -> Crate {
        let mut krate = Crate::default();
        let context = Context {
            place: ModulePath::new(),
            file: root.to_path_buf(),
            folder: root.parent().unwrap_or(Path::new("")).to_path_buf(),
            is_test: false,
            is_top: true,
        };
        krate.file(&context, read);
        krate
    }

    /// The files that are declared.
    pub fn files(&self) -> BTreeSet<&Path> {
        self.modules.values().map(|module| module.file.as_path()).collect()
    }

    fn file(&mut self, context: &Context, read: Read<'_>) {
        let text = read(&context.file)
            .unwrap_or_else(|| panic!("{} is declared and not there", context.file.display()));
        self.module(context);
        self.code(&tokens(&text), context, Named::default(), read);
    }

    fn module(&mut self, context: &Context) -> &mut Module {
        let module = self.modules.entry(context.place.clone()).or_default();
        module.file = context.file.clone();
        module
    }

    /// Reads `spots`; the attributes in front of them gave `named`.
    fn code(&mut self, spots: &[Spot], context: &Context, named: Named, read: Read<'_>) {
        let (mut at, mut named) = (0, named);
        let mut is_of_tests = false;
        while at < spots.len() {
            if let Some((end, attribute)) = attribute(&spots[at..]) {
                is_of_tests |= is_cfg_test(attribute);
                named.read(attribute);
                at += end;
                continue;
            }
            if is_of_tests {
                let end = at + item_len(&spots[at..]);
                let inner = Context { is_test: true, ..context.clone() };
                self.code(&spots[at..end], &inner, std::mem::take(&mut named), read);
                (at, is_of_tests) = (end, false);
                continue;
            }
            at += self.step(spots, at, context, &mut named, read);
        }
    }

    /// Reads the item at `at`. Returns the number of its tokens.
    fn step(
        &mut self,
        spots: &[Spot],
        at: usize,
        context: &Context,
        named: &mut Named,
        read: Read<'_>,
    ) -> usize {
        let here = &spots[at..];
        let before = |back: usize| at.checked_sub(back).map(|at| &spots[at]);
        if here[0].is('{') {
            let len = group_len(here);
            // The arguments of a macro count as items of the module.
            let is_of_macro = before(1).is_some_and(|spot| spot.is('!'));
            let inner = Context { is_top: context.is_top && is_of_macro, ..context.clone() };
            self.code(&here[1..len - 1], &inner, Named::default(), read);
            return len;
        }
        let Some(word) = here[0].word() else { return 1 };
        let next = here.get(1);
        match (word, next.and_then(Spot::word)) {
            ("mod", Some(name)) => {
                return self.child(here, name, context, std::mem::take(named), read);
            }
            ("use", _) if !next.is_some_and(|spot| spot.is('<')) => {
                return self.import(here, is_reexport(&spots[..at]), context);
            }
            (
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static",
                Some(name),
            ) if context.is_top => {
                self.module(context).items.insert(name.to_string());
            }
            ("macro_rules", _) if next.is_some_and(|spot| spot.is('!')) => {
                if let Some(name) = here.get(2).and_then(Spot::word) {
                    self.module(context).items.insert(name.to_string());
                }
            }
            _ => {}
        }
        let is_behind = before(1).is_some_and(Spot::is_colons);
        let is_visibility = before(1).and_then(Spot::word) == Some("in")
            && before(2).is_some_and(|spot| spot.is('('));
        let named = path_len(here);
        if named > 1 && !is_behind && !is_visibility {
            let path = here[..named].iter().filter_map(Spot::word).map(str::to_string).collect();
            let mention = Mention { path, is_test: context.is_test, line: here[0].line };
            self.module(context).mentions.push(mention);
        }
        if !context.is_test {
            let words = here[..named].iter().filter_map(Spot::word).map(str::to_string);
            self.module(context).words.extend(words);
        }
        named
    }

    /// Reads a module that is declared or inline here.
    fn child(
        &mut self,
        here: &[Spot],
        name: &str,
        context: &Context,
        named: Named,
        read: Read<'_>,
    ) -> usize {
        let mut inner = context.clone();
        inner.place.push(name.to_string());
        inner.is_top = true;
        let own_folder = context.file.parent().unwrap_or(Path::new(""));
        if here.get(2).is_some_and(|spot| spot.is('{')) {
            let len = group_len(&here[2..]);
            inner.folder = match named.path {
                Some(path) => plain(&own_folder.join(path)),
                None => context.folder.join(name),
            };
            self.module(&inner);
            self.code(&here[3..2 + len - 1], &inner, Named::default(), read);
            return 2 + len;
        }
        let candidates = match named.path {
            Some(path) => vec![plain(&own_folder.join(path))],
            None => vec![
                context.folder.join(format!("{name}.rs")),
                context.folder.join(name).join("mod.rs"),
            ],
        };
        let there = candidates.iter().find(|file| read(file).is_some());
        inner.file = there.unwrap_or(&candidates[0]).clone();
        inner.folder = match inner.file.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") | None => inner.file.parent().unwrap_or(Path::new("")).to_path_buf(),
            Some(stem) => inner.file.with_file_name(stem),
        };
        self.file(&inner, read);
        if let Some(other) = named.other {
            // A sibling module, so that its imports are seen.
            inner.place.pop();
            inner.place.push(format!("{name} ({other})"));
            inner.file = plain(&own_folder.join(other));
            self.file(&inner, read);
        }
        3
    }

    fn import(&mut self, here: &[Spot], is_reexport: bool, context: &Context) -> usize {
        let len = here.iter().position(|spot| spot.is(';')).unwrap_or(here.len());
        let mut found = Vec::new();
        tree(&here[1..len], &[], &mut found);
        let (line, is_test) = (here[0].line, context.is_test);
        let uses =
            found.into_iter().map(|(path, name)| Use { path, name, is_reexport, is_test, line });
        self.module(context).uses.extend(uses);
        len + 1
    }
}

/// The imports of the tree `spots` after `prefix`, each with its name.
fn tree(spots: &[Spot], prefix: &[String], found: &mut Vec<(Vec<String>, Option<String>)>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < spots.len() {
        let spot = &spots[at];
        at += 1;
        if spot.is('*') {
            return found.push((path, None));
        } else if spot.is('{') {
            let len = group_len(&spots[at - 1..]);
            let inner = &spots[at..at + len - 2];
            return parts(inner).for_each(|part| tree(part, &path, found));
        } else if spot.word() == Some("as") {
            let name = spots.get(at).and_then(Spot::word).map(str::to_string);
            return found.push((path, name.or(Some("_".into()))));
        } else if let Some(word) = spot.word() {
            // `flow::{self}` is `flow`.
            if word != "self" || path.is_empty() {
                path.push(word.to_string());
            }
        }
    }
    if path.len() > prefix.len() || spots.first().and_then(Spot::word) == Some("self") {
        let name = path.last().cloned();
        found.push((path, name));
    }
}

/// The parts of a list, separated by commas.
fn parts(spots: &[Spot]) -> impl Iterator<Item = &[Spot]> {
    let mut depth = 0;
    spots.split(move |spot| {
        depth += i32::from(spot.is('{')) - i32::from(spot.is('}'));
        depth == 0 && spot.is(',')
    })
}

/// The number of tokens of the path at the start of `here`; 1 if there is none.
fn path_len(here: &[Spot]) -> usize {
    let mut len = 1;
    while here.get(len).is_some_and(Spot::is_colons)
        && here.get(len + 1).is_some_and(|spot| spot.word().is_some())
    {
        len += 2;
    }
    len
}

/// The number of tokens of the group at the start of `here`, including both brackets.
fn group_len(here: &[Spot]) -> usize {
    let mut depth = 0;
    for (at, spot) in here.iter().enumerate() {
        match spot.token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("line {}: a bracket is not closed", here[0].line);
}

/// The number of tokens of the item at the start of `here`, after its attributes.
fn item_len(here: &[Spot]) -> usize {
    let is_import = here.iter().take(8).any(|spot| spot.word() == Some("use"));
    let is_field = here.get(1).is_some_and(|spot| spot.is(':'));
    let mut at = 0;
    while at < here.len() {
        if matches!(here[at].token, Token::Mark('{' | '(' | '[')) {
            at += group_len(&here[at..]);
            if here[at - 1].is('}') && !is_import {
                return at;
            }
            continue;
        }
        if here[at].is('}') {
            return at;
        }
        at += 1;
        if here[at - 1].is(';') || (is_field && here[at - 1].is(',')) {
            return at;
        }
    }
    at
}

/// The attribute at the start of `here`: the number of its tokens, and the content of its brackets.
fn attribute(here: &[Spot]) -> Option<(usize, &[Spot])> {
    let start = 1 + usize::from(here.get(1)?.is('!'));
    if !here[0].is('#') || !here.get(start)?.is('[') {
        return None;
    }
    let end = start + group_len(&here[start..]);
    Some((end, &here[start + 1..end - 1]))
}

fn is_cfg_test(attribute: &[Spot]) -> bool {
    let has = |name: &str| attribute.iter().any(|spot| spot.word() == Some(name));
    attribute.first().and_then(Spot::word) == Some("cfg") && has("test") && !has("not")
}

impl Named {
    fn read(&mut self, attribute: &[Spot]) {
        for part in attribute.windows(3) {
            if part[0].word() == Some("path")
                && part[1].is('=')
                && let Token::Text(path) = &part[2].token
            {
                let is_plain = attribute.len() == 3;
                let place = if is_plain { &mut self.path } else { &mut self.other };
                *place = Some(path.clone());
            }
        }
    }
}

/// Whether the item after `before` is public to anybody.
fn is_reexport(before: &[Spot]) -> bool {
    match before.last() {
        Some(last) if last.is(')') => before
            .iter()
            .rposition(|spot| spot.is('('))
            .and_then(|open| before.get(open.checked_sub(1)?))
            .is_some_and(|spot| spot.word() == Some("pub")),
        last => last.and_then(Spot::word) == Some("pub"),
    }
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() != ".." || !plain.pop() {
            plain.push(part);
        }
    }
    plain
}
