//! Tests of the resolver itself, on small generated crates.

use super::imports::{Target, circles};
use super::modules::Crate;
use std::path::Path;

/// A crate of these files, of which `lib.rs` is the root.
fn of(files: &[(&str, &str)]) -> Crate {
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_string())
    };
    Crate::read(Path::new("lib.rs"), &read)
}

/// Which file imports which, as `from > to`.
fn imports(files: &[(&str, &str)]) -> Vec<String> {
    let imports = of(files).imports();
    let pairs = imports.iter().flat_map(|(from, to)| to.keys().map(move |to| (from, to)));
    pairs.map(|(from, to)| format!("{} > {}", from.display(), to.display())).collect()
}

fn words(path: &str) -> Vec<String> {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_string).collect()
}

/// Modules `a` and `b` with files in them; `text` is the file `a/deep/one.rs`.
fn with(text: &str) -> Vec<String> {
    let all = imports(&[
        ("lib.rs", "pub mod a; pub mod b;"),
        ("a/mod.rs", "mod deep; pub use deep::One; pub struct Own;"),
        ("a/deep.rs", "mod one; pub use one::One; pub(crate) struct Deep;"),
        ("a/deep/one.rs", text),
        ("b.rs", "pub mod c; pub mod d; pub use c::C as See;"),
        ("b/c.rs", "pub struct C; pub fn call() {}"),
        ("b/d.rs", "numbers! { pub struct D { x: u64 } }"),
    ]);
    let ours = all
        .into_iter()
        .filter_map(|pair| pair.strip_prefix("a/deep/one.rs > ").map(str::to_string));
    let mut ours: Vec<String> = ours.collect();
    ours.sort();
    ours
}

#[test]
fn trees_of_imports_are_read_to_their_leaves() {
    let all = ["a/deep.rs", "a/mod.rs", "b/c.rs", "b/d.rs"];
    assert_eq!(
        with(
            "pub struct One;
            use crate::{
                // One import for each file.
                a::{self, Own, deep::{Deep}},
                b::{
                    c::C,
                    d::{D as Other},
                },
            };"
        ),
        all
    );
    assert_eq!(with("use super::super::{Own, super::b::{See, d::D}}; use super::Deep;"), all);
}

#[test]
fn what_is_given_on_is_of_the_file_that_defines_it() {
    assert_eq!(with("use crate::b::See;"), ["b/c.rs"]);
    assert_eq!(with("pub use crate::b::See;"), [""; 0]);
    assert_eq!(with("pub(crate) use crate::b::See; fn f() -> See { todo!() }"), ["b/c.rs"]);
    assert_eq!(with("use super::One as Same; use crate::a; pub struct One;"), [""; 0]);
}

#[test]
fn paths_in_code_import_too() {
    assert_eq!(with("fn f() { crate::b::c::call(); }"), ["b/c.rs"]);
    assert_eq!(with("fn f(x: super::Deep) {}"), ["a/deep.rs"]);
    assert_eq!(with("use crate::b::{self, c as see}; fn f() { see::call() }"), ["b/c.rs"]);
    assert_eq!(with("fn f() { use crate::b::*; let x = d::D { x: 1 }; }"), ["b.rs", "b/d.rs"]);
    // A module's name alone imports nothing; here it only restricts visibility.
    assert_eq!(with("use crate::b; pub(in crate::a) struct One; pub(super) fn f() {}"), [""; 0]);
    assert_eq!(
        with("use std::io; fn f() { io::stdin(); \"crate::b::c::C\"; } // crate::b::c::C"),
        [""; 0]
    );
}

#[test]
fn modules_inside_a_file_stand_below_it() {
    let text = "mod inner { use super::super::Deep; fn f() -> super::One { todo!() } }
        pub struct One;";
    assert_eq!(with(text), ["a/deep.rs"]);
    let tests = "#[cfg(test)] mod tests { use super::*; use crate::b::See; }
        #[cfg(test)] use crate::b::See;
        #[cfg(test)] fn f() -> crate::a::Own { todo!() }
        fn g(x: super::Deep) {}";
    assert_eq!(with(tests), ["a/deep.rs"]);
}

#[test]
fn paths_lead_where_rust_finds_them() {
    let krate = of(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub fn b() {} pub mod b { pub struct X; } use crate::b::*; use c::Z;"),
        ("b.rs", "pub mod c; pub struct Y; pub use self::Y as Why; use Loop as Loop;"),
        ("b/c.rs", "pub struct Z; pub use super::super::a::b as back;"),
    ]);
    let at = |place: &str, path: &str| krate.resolve(&words(place), &words(path));
    let item = |place: &str| Some(Target::Item(words(place)));
    assert_eq!(at("a", "b"), item("a"), "the last of a path is an item");
    assert_eq!(at("a", "b::X"), item("a::b"));
    assert_eq!(at("a", "Y::new"), item("b"), "through all of another module");
    assert_eq!(at("a", "Z"), item("b::c"));
    assert_eq!(at("", "b::Why"), item("b"));
    assert_eq!(at("b::c", "super::c::back"), item("a"));
    assert_eq!(at("b", "self::made_by_a_macro"), item("b"));
    assert_eq!(at("b", "c"), Some(Target::Module(words("b::c"))));
    assert_eq!(at("b", "std::io"), None);
    assert_eq!(at("b", "Loop"), None, "a name that stands for itself");
    assert_eq!(at("", "super::b"), None);
}

#[test]
fn modules_are_named_by_every_kind_of_path() {
    let krate = of(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod b;"),
        (
            "a/b.rs",
            "use crate::{\n    one,\n    two::{Two, three},\n};
            fn f() { super::super::four::call(); super::five(); std::io::stdin(); }
            pub(in crate::nothing) mod tests { use super::super::super::six; }",
        ),
    ]);
    let mut named: Vec<String> =
        krate.modules_named(Path::new("a/b.rs")).into_iter().map(|(module, _)| module).collect();
    named.sort();
    assert_eq!(named, ["a", "four", "one", "six", "two", "two"]);
}

#[test]
fn a_parent_that_only_gives_on_closes_no_circle() {
    let root = ("lib.rs", "mod a;");
    let child = ("a/b.rs", "use super::Shared; pub struct B(Shared);");
    let count = |parent| circles(&of(&[root, ("a/mod.rs", parent), child]).imports()).len();
    assert_eq!(count("mod b; pub use b::B; pub struct Shared;"), 0);
    assert_eq!(count("mod b; pub use b::B; pub struct Shared; fn f(b: B) {}"), 1);
    assert_eq!(count("mod b; use b::B; pub struct Shared;"), 1);
    assert_eq!(count("mod b; pub struct Shared; fn f() { b::B::new() }"), 1);
}

#[test]
fn circles_are_told_apart() {
    let krate = of(&[
        ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
        ("d.rs", "use crate::e::E; pub struct D;"),
        ("e.rs", "use crate::d::D; pub struct E;"),
    ]);
    let imports = krate.imports();
    let found: Vec<Vec<String>> = circles(&imports)
        .into_iter()
        .map(|circle| circle.into_iter().map(|file| file.display().to_string()).collect())
        .collect();
    assert_eq!(found, [vec!["a.rs", "b.rs", "c.rs"], vec!["d.rs", "e.rs"]]);
}

#[test]
fn files_are_found_as_rustc_finds_them() {
    let krate = of(&[
        (
            "lib.rs",
            "mod a; #[path = \"../x/y\"] mod z { pub mod one; } #[path = \"odd.rs\"] mod p;
            #[cfg_attr(not(x), path = \"no_q.rs\")] mod q;",
        ),
        ("a/mod.rs", "#[cfg(test)] mod tests; mod b;"),
        ("a/tests.rs", "mod c;"),
        ("a/tests/c.rs", ""),
        ("a/b.rs", "mod inline { mod d; }"),
        ("a/b/inline/d.rs", ""),
        ("x/y/one.rs", ""),
        ("../x/y/one.rs", ""),
        ("odd.rs", ""),
        ("q.rs", ""),
        ("no_q.rs", ""),
    ]);
    let files: Vec<String> =
        krate.files().into_iter().map(|file| file.display().to_string()).collect();
    assert_eq!(
        files,
        [
            "../x/y/one.rs",
            "a/b/inline/d.rs",
            "a/b.rs",
            "a/mod.rs",
            "a/tests/c.rs",
            "a/tests.rs",
            "lib.rs",
            "no_q.rs",
            "odd.rs",
            "q.rs",
        ]
    );
}
