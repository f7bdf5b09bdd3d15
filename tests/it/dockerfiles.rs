//! What a Dockerfile begins from: BuildKit is the judge, on random files.
//!
//! 80 files; with `JOBCTL_TEST_FULL` 700, about half of which no engine refuses. What our reading calls certain must be what BuildKit names when
//! it builds; which base it is, the variable `ID` in the image says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use jobctl::engine::build::{BuildRequest, Recipe};
use jobctl::engine::docker::DockerEngine;
use jobctl::event::Events;
use jobctl::model::{ImageRef, Secret};
use jobctl::plan::dockerfile::{Base, Dockerfile, Sources};

use crate::support::Bench;
use crate::support::container::Runner;
use crate::support::image::{ImageName, docker, tiny};
use crate::support::random::Random;

/// Lines of a stage that are hard to read, or look like what they are not. `IMAGE` is one.
const STEPS: [&str; 50] = [
    "RUN true",
    "RUN echo $((1<<N))",
    "RUN echo $((1 << N))",
    "RUN cat << EOF",
    "RUN echo a \\\\",
    "RUN echo a \\",
    "RUN echo \"usage: <<name>>\"",
    "RUN python3 -c \"print(1<<n)\"",
    "RUN echo it's <<EOF",
    "RUN [\"/bin/sh\", \"-c\", \"cat <<EOF\"]",
    "RUN [ \"/bin/sh\" ]",
    "RUN echo 'int main(){std::cout<<x<<endl;}'",
    "RUN <<EOF\nFROM IMAGE\nEOF",
    "RUN cat <<'E F'\nRUN true\nE F",
    "RUN cat <<-EOF\n\tRUN true\n\tEOF",
    "RUN cat <<<EOF",
    "RUN a \\\n# FROM IMAGE\n\n  b",
    "RUN a \\\nFROM IMAGE",
    "RUN a \\ \nFROM IMAGE",
    "RUN a `\nRUN b",
    "run true",
    "RUN --mount=type=bind,from=IMAGE,target=/x true",
    "RUN --mount=TYPE=bind,From=IMAGE,target=/x true",
    "RUN --mount='from=IMAGE,target=/x' true",
    "RUN --mount=type=bind,\"from=IMAGE\",target=/x true",
    "RUN --mount=\"type=bind\",target=/x,from=IMAGE true",
    "RUN --mount=type=cache,from=IMAGE,target=/x true",
    "RUN --mount=type=tmpfs,target=/x true",
    "RUN --mount=from=one,target=/x true",
    "RUN --mount=from=0,target=/x true",
    "RUN --mount=from=IMAGE,target=/x --mount=from=NAME-c,target=/y true",
    "COPY --from=IMAGE /f /g",
    "COPY --from=\"IMAGE\" /f /g",
    "COPY '--from=IMAGE' /f /g",
    "COPY --chown=1:1 --from=IMAGE /f /g",
    "COPY --from=IMAGE [\"/f\", \"/g\"]",
    "COPY --from=0 /f /g",
    "COPY --from=one /f /g",
    "COPY --from=ONE /f /g",
    "COPY --from=two \\\n  /f /g",
    "COPY Dockerfile /d",
    "COPY -- Dockerfile /d",
    "COPY [ \"Dockerfile\", \"/d\" ]",
    "ADD Dockerfile /d",
    "ARG F=Dockerfile\nADD ${F} /d",
    "ONBUILD RUN true",
    "ONBUILD COPY --from=IMAGE / /",
    "ENV A=\"<<EOF\" B='FROM IMAGE'",
    "LABEL a=\"b \\\n  FROM IMAGE\"",
    "# FROM IMAGE",
];

/// Lines before the first stage.
const GLOBALS: [&str; 16] = [
    "ARG V=a",
    "ARG V=b",
    "ARG V",
    "ARG V='c'",
    "ARG V=\"${W:-a}\"",
    "ARG V=${UNSET}",
    "ARG V=${W}",
    "ARG W=b",
    "ARG W=\\b",
    "ARG W=${V:+c}",
    "ARG W=${V:-${X:-b}}",
    "ARG W='$V'",
    "ARG X=a Y=b",
    "ARG W=${V",
    "ARG W=$V$UNSET",
    "# ARG V=c",
];

/// What a stage begins from.
const BASES: [&str; 22] = [
    "NAME-a:1",
    "NAME-b:1",
    "NAME-c",
    "NAME-c:latest",
    "docker.io/library/NAME-a:1",
    "\"NAME-a:1\"",
    "NAME-'b':1",
    "NAME-${V}:1",
    "NAME-$V:1",
    "NAME-${V:-a}:1",
    "NAME-${W:-${V:-b}}:1",
    "NAME-${W:+a}:1",
    "NAME-\"${W:-b}\":1",
    "NAME-\\a:1",
    "NAME-\\\nb:1",
    "${V:+NAME-}${V:-NAME-a}:1",
    "NAME-${V?}:1",
    "one",
    "One",
    "${V}",
    "scratch",
    "NAME-a:1 \\\n # comment\n",
];

fn dockerfile(random: &mut Random, name: &str) -> String {
    let mut lines = Vec::new();
    let first = [
        "",
        "",
        "",
        "# comment",
        "# escape=`",
        "# escape = \\",
        "# check=skip=all\n# escape=`",
    ];
    lines.push(random.pick(&first).to_owned());
    for _ in 0..random.below(4) {
        lines.push(random.pick(&GLOBALS).to_owned());
    }
    if random.below(2) == 0 {
        lines.push("ARG V=a".to_owned());
    }
    let stages = 1 + random.below(3);
    for stage in 0..stages {
        let from = random.pick(&[
            "FROM",
            "FROM",
            "from",
            " FROM",
            "FROM  --platform=$BUILDPLATFORM",
        ]);
        let stage_name = match stage {
            0 => random.pick(&["", " AS one", " as One"]),
            1 => random.pick(&["", " AS two", " AS one", " AS v"]),
            _ => "",
        };
        let base = match random.below(3) {
            // Often enough, one that is there.
            0 => "NAME-a:1",
            _ => random.pick(&BASES),
        };
        lines.push(format!("{from} {base}{stage_name}"));
        for _ in 0..random.below(4) {
            let image = random.pick(&["NAME-a:1", "NAME-b:1", "NAME-c"]);
            let step = random.pick(&STEPS);
            // A stage takes from those before it.
            let is_first = stage == 0
                && ["one", "ONE", "from=0", "two"]
                    .iter()
                    .any(|name| step.contains(name));
            if !is_first {
                lines.push(step.replace("IMAGE", image));
            }
        }
    }
    lines.retain(|line| !line.is_empty());
    let end = random.pick(&["\n", "\n", "\n", "\r\n"]);
    let mark = random.pick(&["", "", "", "\u{feff}"]);
    let text = lines.join("\n").replace("NAME", name) + "\n";
    format!("{mark}{}", text.replace('\n', end))
}

/// The whole names of the images that a reading lists.
fn names(sources: &Sources) -> BTreeSet<String> {
    let names = sources.images.iter();
    names
        .map(|name| name.parse::<ImageRef>().unwrap().tagged().to_string())
        .collect()
}

#[tokio::test]
async fn what_is_certain_is_what_buildkit_resolves() {
    let count = match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 700,
        None => 80,
    };
    let bench = Bench::new();
    let name = ImageName::new();
    for (image, id) in [("a:1", "a"), ("b:1", "b"), ("c:latest", "c"), ("c:1", "c1")] {
        tiny(&name, &format!("{}-{image}", name.as_str()), id);
    }
    let runner = Runner::new().await;
    let mut seen = (0, 0);
    let mut built = Vec::new();
    for seed in 0..count {
        let mut random = Random::new(seed);
        let text = dockerfile(&mut random, name.as_str());
        let path = bench.write(&format!("{seed}/Dockerfile"), &text);
        let mut args = BTreeMap::new();
        if random.below(3) == 0 {
            args.insert("V".to_owned(), random.pick(&["a", "b", ""]).to_owned());
        }
        let targets: Vec<_> = ["one", "two"]
            .into_iter()
            .filter(|name| text.contains(&format!(" AS {name}")))
            .collect();
        let target = (random.below(4) == 0 && !targets.is_empty()).then(|| random.pick(&targets));
        let sources = Dockerfile::read(&text).sources(target, &args);
        let said = format!("seed {seed}, {args:?}, {target:?}, {sources:?}:\n{text}");
        let request = request(&path, &name, &args, target);
        let Some((id, named)) = build(&runner.engine, &request).await else {
            continue;
        };
        seen.0 += 1;
        if sources.is_certain {
            seen.1 += 1;
            assert_eq!(named, names(&sources), "{said}");
            let environment = docker(&["inspect", "--format", "{{.Config.Env}}", &id]);
            let mut words = environment.trim_matches(['[', ']', '\n']).split(' ');
            let found = words.find_map(|word| word.strip_prefix("ID="));
            let base = match &sources.base {
                Base::Image(base) => {
                    Some(docker(&["inspect", "--format", "{{.Config.Env}}", base]))
                }
                Base::Scratch => None,
                Base::Unknown => panic!("it is certain, and the base is not: {said}"),
            };
            let base = base.map(|base| base.trim_matches(['[', ']', '\n']).replace("ID=", ""));
            assert_eq!(found, base.as_deref(), "{said}");
        }
        built.push(id);
    }
    built.sort();
    built.dedup();
    let _ = Command::new("docker")
        .args(["rmi", "--force"])
        .args(&built)
        .output();
    // If all were refused, or none certain, it would tell nothing.
    let (judged, certain) = seen;
    assert!(
        judged * 7 > count * 3 && certain * 2 > judged,
        "{seen:?} of {count}"
    );
}

fn request(
    path: &Path,
    name: &ImageName,
    args: &BTreeMap<String, String>,
    target: Option<&str>,
) -> BuildRequest {
    let context = path.parent().unwrap().to_owned();
    let mut recipe = Recipe::new(context, path.to_owned());
    let args = args.iter();
    recipe.args = args
        .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
        .collect();
    recipe.target = target.map(str::to_owned);
    let (key, value) = name
        .label()
        .split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .unwrap();
    BuildRequest {
        recipe,
        labels: BTreeMap::from([(key, value)]),
        tags: vec![format!("{}-built", name.as_str()).parse().unwrap()],
        rewrite_times_to: None,
        clock: Arc::new(|_| 0),
        mask: Arc::new(str::to_owned),
    }
}

/// The image's id, and the images that BuildKit named; nothing if it refused.
async fn build(
    engine: &DockerEngine,
    request: &BuildRequest,
) -> Option<(String, BTreeSet<String>)> {
    let (events, _) = Events::channel();
    let built = engine.build(request, &events, None).await.ok()?;
    let named = built.sources.expect("the tests' engine has BuildKit");
    let images = named.iter().map(|source| {
        assert!(source.is_image, "{source:?}");
        source.name.clone()
    });
    Some((built.id.to_string(), images.collect()))
}
