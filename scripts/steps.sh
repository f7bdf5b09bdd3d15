# Runs steps, and sums them up at the end. Sourced by ./check and job-template/check, after setup.sh.
# shellcheck shell=sh

summary=''
failed=''

# step NAME COMMAND...: runs a step, notes its time, goes on after a failure.
step() {
    name=$1
    shift
    title "$name"
    start=$(date +%s)
    if "$@"; then
        result=ok
    else
        result=FAILED
        failed="$failed $name"
    fi
    summary="$summary$(printf '%-6s %-14s %4s s' "$result" "$name" "$(($(date +%s) - start))")
"
}

# What came of the steps. Ends the program if one failed.
sum_up() {
    title "summary"
    printf '%s' "$summary"
    [ -z "$failed" ] || fail "failed:$failed"
}
