# What the examples' tours are written in.
say() { printf '\n# %s\n' "$*"; }
show() {
    printf '\n$ processflow'
    for word; do case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '\n'
    processflow "$@"
}
latest() { processflow runs show last --json | sed -n 's/^ *"run": "\([^"]*\)",\{0,1\}$/\1/p' | head -n 1; }
