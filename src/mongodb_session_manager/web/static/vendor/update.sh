#!/usr/bin/env bash
# Fetches the third-party browser code of this directory, at the versions named here, from the package registry that npm
# is configured for. Raise a version, run this, run the browser tests, and commit what changed.
# With --check it fetches nothing, says which versions are the newest, and fails when one here is not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

MARKDOWN_IT=15.0.3
DOMPURIFY=3.5.0
UPLOT=1.6.32
HIGHLIGHT=11.12.0
# Compiled into markdown-it's browser bundle; fetched for their licences only.
BUNDLED=(linkify-it mdurl uc.micro entities punycode.js)

if [ "${1:-}" = --check ]; then
	behind=0
	for pinned in "markdown-it@$MARKDOWN_IT" "dompurify@$DOMPURIFY" "uplot@$UPLOT" "@highlightjs/cdn-assets@$HIGHLIGHT"; do
		newest=$(npm view "${pinned%@*}" version)
		if [ "$newest" = "${pinned##*@}" ]; then
			echo "$pinned is the newest"
		else
			echo "$pinned is behind $newest"
			behind=1
		fi
	done
	exit $behind
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# unpack NAME[@VERSION]: prints the directory the package was unpacked into.
unpack() {
	local target="$work/${1%@*}"
	mkdir -p "$target"
	(cd "$target" && npm pack --silent "$1" >/dev/null)
	tar -xzf "$target"/*.tgz -C "$target" --strip-components=1
	echo "$target"
}

package=$(unpack "markdown-it@$MARKDOWN_IT")
mkdir -p markdown-it dompurify uplot highlight
cp "$package/dist/browser/markdown-it.esm.min.mjs" markdown-it/markdown-it.js
cp "$package/LICENSE" markdown-it/LICENSE
dependencies=$(node -p "JSON.stringify(require('$package/package.json').dependencies)")
for name in "${BUNDLED[@]}"; do
	range=$(node -p "($dependencies)['$name'] ?? ''")
	[ -n "$range" ] || continue
	bundled=$(unpack "$name@$range")
	license=$(find "$bundled" -maxdepth 1 -iname 'license*' | head -n 1)
	{ printf '\n\n---- %s %s, part of the bundle ----\n\n' "$name" "$(node -p "require('$bundled/package.json').version")"; cat "$license"; } >>markdown-it/LICENSE
done

package=$(unpack "dompurify@$DOMPURIFY")
cp "$package/dist/purify.es.mjs" dompurify/purify.js
cp "$package/LICENSE" dompurify/LICENSE

package=$(unpack "uplot@$UPLOT")
cp "$package/dist/uPlot.esm.js" uplot/uPlot.js
cp "$package/dist/uPlot.min.css" uplot/uPlot.css
cp "$package/LICENSE" uplot/LICENSE

package=$(unpack "@highlightjs/cdn-assets@$HIGHLIGHT")
cp "$package/es/highlight.min.js" highlight/highlight.js
cp "$package/LICENSE" highlight/LICENSE

# Source maps are not shipped: a browser's developer tools would ask for them in vain.
sed -i -E '/^\/\/# sourceMappingURL=/d' markdown-it/markdown-it.js dompurify/purify.js
