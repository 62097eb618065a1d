#!/bin/sh
# Makes the first inputs of the fuzzers from the golden files, and their dictionary from the grammars.
set -eu
cd "$(dirname "$0")"
for target in conf syntax fmt; do
	mkdir -p "corpus/$target"
	for file in ../examples/pf.conf $(find ../tests/golden -name '*.conf'); do
		name="$(echo "$file" | tr -c 'a-zA-Z0-9\n' '-')"
		cp "$file" "corpus/$target/$name"
	done
done
{
	echo '# Words of pf.conf for the fuzzers, from the grammars; made by fuzz/seed.sh.'
	cat ../crates/pfconf/src/pf.pest ../crates/pfconf/src/freebsd.pest |
		grep -o '"[a-z!<>=-][a-z0-9!<>=-]\{1,\}"' | sort -u
	printf '%s\n' '"$m"' '"\x0a"' '"10.0.0.1"' '"fd00::1"' '"10.0.0.0/8"' '"tun0"' '"tcp"' '"S/SA"' '"echoreq"'
} >pf.dict
