//! Many short runs at once: nothing is lost, nothing is mixed up.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::project::Project;
use crate::support::run;

/// How many runs; all thousand in the full check.
fn count() -> usize {
    match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 1000,
        None => 60,
    }
}

#[test]
fn every_code_and_line_of_many_runs_at_once_is_right() {
    let project = Project::empty();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count() {
                        break;
                    }
                    let code = number % 3 * 3;
                    let script =
                        format!("echo line {number}; echo error {number} >&2; exit {code}");
                    let ended = run(&mut project.run_image(&[], &["sh", "-c", &script]));
                    assert_eq!(ended.code, Some(i32::try_from(code).unwrap()), "{ended:?}");
                    assert_eq!(ended.stdout, format!("line {number}\n"));
                    assert_eq!(ended.stderr, format!("error {number}\n"));
                }
            });
        }
    });
    let records = project.records();
    assert_eq!(records.len(), count());
    let codes: Vec<_> = records
        .iter()
        .map(|record| record["exit_code"].as_u64())
        .collect();
    for code in [0, 3, 6] {
        let share = codes.iter().filter(|known| **known == Some(code)).count();
        assert!(share >= count() / 3, "{code}: {share}");
    }
    project.assert_clean();
}
