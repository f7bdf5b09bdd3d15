//! `jobctl images JOB`: whose images they are.

use crate::support::image::ImageName;
use crate::support::{Bench, run};

#[test]
fn images_of_a_job_are_those_of_the_project_alone() {
    let bench = Bench::new();
    let image = ImageName::new();
    let job = image.as_str();
    for project in ["one", "two"] {
        bench.write(
            &format!("{project}/jobs.yaml"),
            &format!(
                "version: 1\nname: {project}\nimage: {{ prefix: registry.invalid/team- }}\njobs:\n  {job}: {{ build: \
                 {{ context: . }} }}\n"
            ),
        );
        bench.write(&format!("{project}/file"), project);
        bench.write(
            &format!("{project}/Dockerfile"),
            &format!("FROM scratch\nLABEL {}\nCOPY file /\n", image.label()),
        );
    }
    let call = |directory: &str, args: &[&str]| {
        let mut command = bench.jobctl();
        let ended = run(command.args(["-C", directory]).args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    call("one", &["build"]);
    call("two", &["build"]);
    // One that was built for another registry is the project's, too.
    bench.write("two/file", "other");
    call("two", &["build", "--image-prefix", "other.invalid/"]);
    let ids = |directory: &str| {
        let listed = call(directory, &["images", "-q", job]);
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, two) = (ids("one"), ids("two"));
    assert_eq!((one.len(), two.len()), (1, 2), "{one:?} {two:?}");
    assert!(!two.contains(&one[0]));
    let listed = call("one", &["images", job]);
    assert!(!listed.contains("team-two-"), "{listed}");
    // Where there is no jobs.yaml, all are.
    assert_eq!(ids(".").len(), 3);
    // Whose they are is not known where jobs.yaml can't be read.
    bench.write("one/jobs.yaml", "version: 1\n");
    let ended = run(bench.jobctl().args(["-C", "one", "images", "-q", job]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
}
