#!/usr/bin/env bash
# Counts the words of a stream with bash and jq: the whole protocol in one screen.
#
#   multilangd run --local clients/bash/wordcount.properties
#   echo "to be or not to be" | multilangd put words
#
# jq reads the daemon's JSON and turns it into short lines; the loop below answers. Only answers go to stdout.
set -euo pipefail

declare -A count=()
words=0 tries=0 pending='' # pending: the action that is answered once its checkpoint is stored

say() { printf '%s\n' "$*" >&2; }
status() { printf '{"action":"status","responseFor":"%s"}\n' "$1"; }
checkpoint() { # null: everything delivered so far
  pending=$1
  printf '{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}\n'
}

while read -r what rest; do
  case $what in
    word)
      read -r number word <<<"$rest"
      word=${word:-(unprintable)}
      count[$word]=$((${count[$word]:-0} + number)) words=$((words + number)) ;;
    processRecords)
      say "$words words: $(for w in "${!count[@]}"; do echo "${count[$w]} $w"; done | sort -k1,1nr -k2 | sed 10q | paste -sd,)"
      checkpoint "$what" ;;
    shutdownRequested | shardEnded) # a shard whose end is not checkpointed keeps its children waiting
      checkpoint "$what" ;;
    initialize)
      say "counting the words of $rest"
      status "$what" ;;
    leaseLost)
      status "$what" ;;
    checkpoint) # the reply to ours; what went wrong is in rest
      case $rest in
        none | ShutdownException) # stored, or the lease is gone and leaseLost follows
          tries=0
          status "$pending" ;;
        ThrottlingException | KinesisClientLibDependencyException)
          tries=$((tries + 1))
          if ((tries > 60)); then say "the lease table still fails: $rest" && exit 1; fi
          sleep "0.$((RANDOM % 9 + 1))"
          sleep "$((tries < 8 ? tries / 2 : 4))"
          checkpoint "$pending" ;;
        *)
          say "checkpoint refused: $rest" && exit 1 ;;
      esac ;;
    *)
      say "the daemon asked for $what, which this script does not know" && exit 1 ;;
  esac
done < <(
  jq --unbuffered -r '
    if .action == "processRecords" then
      (reduce (.records[].data | @base64d | ascii_downcase | split("\n")[] | split("\t")[] | split(" ")[] | select(. != "")) as $word
        ({}; .[$word] += 1) | to_entries[] | "word \(.value) \(.key)"), .action
    elif .action == "initialize" then "\(.action) \(.shardId)"
    elif .action == "checkpoint" then "\(.action) \(.error // "none")"
    else .action end'
)
# The pipe has ended. jq ends well, too, unless it could not read what came.
wait "$!" || { say "the daemon sent something that is not JSON" && exit 1; }
