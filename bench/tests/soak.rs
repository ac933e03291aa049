//! `httplines-bench soak`: a short one accounts for everything, and one that is interrupted leaves
//! nothing behind.

mod root {
    use crate::support::lab;
    use crate::{bench_path, httplines, needs_root};
    use serde_json::Value;
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// A soak of so many minutes, with its report in `folder` and its files in `temporary`.
    fn soak(minutes: &str, folder: &Path, temporary: &Path) -> Command {
        let mut command = Command::new(bench_path());
        command.args(["soak", minutes, "--rate", "4000", "--httplines", httplines(), "--folder"]);
        command.arg(folder).env("TMPDIR", temporary).stdin(Stdio::null());
        command
    }

    fn report(folder: &Path) -> Value {
        let text = std::fs::read(folder.join("soak.json")).expect("there is a report");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// What is wrong, except growth: in half a minute nothing has settled.
    fn faults(report: &Value) -> Vec<&str> {
        let all = report["faults"].as_array().expect("a list").iter();
        let all = all.map(|fault| fault.as_str().expect("a sentence"));
        all.filter(|fault| !fault.contains("grew") && !fault.contains("growth")).collect()
    }

    fn is_empty(folder: &Path) -> bool {
        folder.read_dir().expect("a folder").next().is_none()
    }

    #[test]
    fn each_frame_line_and_file_of_half_a_minute_is_accounted_for() {
        needs_root!();
        let (folder, temporary) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let output = soak("0.5", folder.path(), temporary.path()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(folder.path().join("soak.json").exists(), "{said}");
        let report = report(folder.path());
        assert_eq!(faults(&report), [""; 0], "{said}");
        let is_passed = report["faults"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(output.status.code(), Some(i32::from(!is_passed)), "{said}");
        let number = |path: &str| report.pointer(path).and_then(Value::as_u64).expect(path);
        for trouble in ["hang_ups", "moves", "link_downs", "interfaces", "full_disks"] {
            assert_eq!(number(&format!("/troubles/{trouble}")), 1, "{trouble}");
        }
        for (path, least) in [
            ("/fates/right", 1000),
            ("/fates/cut", 1),
            ("/frames_unseen", 1000),
            ("/files/closed", 5),
            ("/files/closed_sidecars", 5),
            ("/files/moved", 1),
        ] {
            assert!(number(path) >= least, "{path}: {report}");
        }
        for picture in ["memory", "held", "losses", "rates"] {
            assert!(folder.path().join(format!("{picture}.svg")).exists());
        }
        assert!(is_empty(temporary.path()));
    }

    #[test]
    fn an_interrupted_soak_reports_and_leaves_nothing_behind() {
        needs_root!();
        let (folder, temporary) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mut command = soak("10", folder.path(), temporary.path());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = stdout.lines().map_while(Result::ok);
        // The heading of the table; then frames are on their way.
        assert!(lines.any(|line| line.contains("frames/s   lines/s")));
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("a list");
        assert!(!mounts.contains("httplines-soak"), "nobody else sees its file system");
        lab::send_signal(&child, "INT");
        assert!(lines.any(|line| line.contains("interrupted")));
        assert_eq!(child.wait().expect("it ends").code(), Some(1));
        assert_eq!(faults(&report(folder.path())), ["interrupted"]);
        assert!(is_empty(temporary.path()));
    }
}
