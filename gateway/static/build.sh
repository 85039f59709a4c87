#!/bin/sh
# Rebuilds playground.js, playground.css and LICENSES.txt from source/ (needs Node 18+ and the npm registry).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/source/* "$work"/
cd "$work"
npm ci --ignore-scripts --no-audit --no-fund
npx esbuild playground.jsx --bundle --minify --jsx=automatic --target=es2022 --format=iife \
  --define:process.env.NODE_ENV='"production"' --loader:.woff2=dataurl --legal-comments=none \
  --metafile=meta.json --outfile="$here/playground.js"
node licences.mjs meta.json > "$here/LICENSES.txt"
ls -l "$here"
