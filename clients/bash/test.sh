#!/usr/bin/env bash
# Holds conversations with wordcount.sh and compares what it says. Needs bash and jq, as the processor does.
set -uo pipefail
shopt -s lastpipe # the checks stand at the end of pipes and count
export LC_ALL=C   # for the order of words
cd "$(dirname "$0")" || exit 1

passed=0 failed=0

# check NAME EXIT_CODE EXPECTED_STDOUT EXPECTED_STDERR: with the daemon's lines on stdin
check() {
  local out err code errors
  errors=$(mktemp)
  out=$(timeout 30 ./wordcount.sh 2>"$errors")
  code=$?
  err=$(<"$errors")
  rm -f "$errors"
  if [[ $code == "$2" && $out == "$3" && $err == "$4" ]]; then
    passed=$((passed + 1)) && echo "ok: $1"
  else
    failed=$((failed + 1)) && printf 'FAILED: %s\nexit code: %s\nstdout: %s\nstderr: %s\n' "$1" "$code" "$out" "$err"
  fi
}

batch() { # a processRecords line with one record for each argument
  local records='' data
  for data; do records+=",{\"data\":\"$(printf "$data" | base64 -w0)\",\"partitionKey\":\"k\",\"sequenceNumber\":\"1\",\"action\":\"record\"}"; done
  echo "{\"action\":\"processRecords\",\"records\":[${records:1}],\"millisBehindLatest\":0}"
}
action() { echo "{\"action\":\"$1\"}"; }
reply() { echo "{\"action\":\"checkpoint\",\"sequenceNumber\":null,\"subSequenceNumber\":null,\"error\":${1:-null}}"; }
status() { echo "{\"action\":\"status\",\"responseFor\":\"$1\"}"; }
ask='{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}'

{ echo '{"action":"initialize","shardId":"s-1"}'; batch 'to be' 'or not to be'; reply; action shardEnded; reply; } |
  check 'a shard is counted to its end' 0 \
    "$(status initialize; echo "$ask"; status processRecords; echo "$ask"; status shardEnded)" \
    "$(printf 'counting the words of s-1\n6 words: 2 be,2 to,1 not,1 or')"
{ batch a; reply '"ThrottlingException"'; reply '"KinesisClientLibDependencyException"'; reply; } |
  check 'a throttling or failing table is asked again' 0 \
    "$(echo "$ask"; echo "$ask"; echo "$ask"; status processRecords)" '1 words: 1 a'
{ batch a; reply '"ShutdownException"'; action leaseLost; } |
  check 'a lost lease is no failure' 0 "$(echo "$ask"; status processRecords; status leaseLost)" '1 words: 1 a'
{ action shutdownRequested; reply; action leaseLost; } |
  check 'a stop is checkpointed' 0 "$(echo "$ask"; status shutdownRequested; status leaseLost)" ''
{ batch a; reply '"InvalidStateException"'; } |
  check 'a refused checkpoint ends the process' 1 "$ask" "$(printf '1 words: 1 a\ncheckpoint refused: InvalidStateException')"
action dance |
  check 'an unknown action ends the process' 1 '' 'the daemon asked for dance, which this script does not know'
echo '{"action":' | check 'a line that is not JSON ends the process' 1 '' \
  "$(printf 'parse error: Unfinished JSON term at EOF at line 2, column 0\nthe daemon sent something that is not JSON')"
{ batch '$(touch x) `y` * "q" a] \\ %%s' '\t\n  \000' ''; reply; } |
  check 'words are only words' 0 "$(echo "$ask"; status processRecords)" \
    '9 words: 1 "q",1 $(touch,1 %s,1 (unprintable),1 *,1 \,1 `y`,1 a],1 x)'
printf '' | check 'the end of the pipe is a clean exit' 0 '' ''

echo "$passed passed, $failed failed"
((failed == 0))
