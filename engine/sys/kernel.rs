//! The kernel's release: uname(2).

/// The release, such as `6.12.41+deb13-amd64`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether the kernel is older than this version. If its release has no version, assume not.
pub fn is_older_than(version: (u32, u32)) -> bool {
    version_of(&release()).is_some_and(|ours| ours < version)
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version_of("5.4.0-216-generic"), Some((5, 4)));
        assert_eq!(version_of("6.12.41+deb13-amd64"), Some((6, 12)));
        assert_eq!(version_of("5.10-rc7"), Some((5, 10)));
        assert_eq!(version_of("mine"), None);
        assert!(version_of("5.9.1") < Some((5, 10)));
        assert!(!is_older_than((2, 6)));
        assert!(is_older_than((999, 0)));
    }
}
