# shellcheck shell=bash
# Shared by scripts/deb and scripts/tarball, which source it after lib.sh.

VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
# The same commit gives the same bytes: files have its time, or that of the manifest without git. It
# is not exported: cargo would build all that is written in C again after each commit.
EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null ||
    stat -c %Y "$ROOT/Cargo.toml")}
umask 022
# Lists are sorted in the same way everywhere.
export LC_ALL=C

# What others make, and both packages need. Fails with the names of those that are not there.
require_files() {
    local file absent=()
    for file in "$@"; do [[ -s $ROOT/$file ]] || absent+=("$file"); done
    ((${#absent[@]} == 0)) || die "these files of the repository are missing: ${absent[*]}"
}

# Installs $2 as $3 with the usual mode, below the staged tree $1.
stage() { install -D -m 644 -- "$2" "$1/$3"; }

# Installs the program $2 without its debugging information as $3, and says its sizes.
stage_program() {
    install -D -m 755 -- "$2" "$1/$3"
    strip -- "$1/$3"
    say "The program has $(stat -c %s "$1/$3") bytes; before it was stripped $(stat -c %s "$2")."
}

# Stages what each package has: $1 is the tree, $2 the folder for the documentation in it.
stage_common() {
    local tree=$1 doc=$2
    stage "$tree" docs/httplines.1 usr/share/man/man1/httplines.1
    gzip -9n -- "$tree/usr/share/man/man1/httplines.1"
    stage "$tree" packaging/completions/bash usr/share/bash-completion/completions/httplines
    stage "$tree" packaging/completions/zsh usr/share/zsh/vendor-completions/_httplines
    stage "$tree" packaging/completions/fish usr/share/fish/vendor_completions.d/httplines.fish
    stage "$tree" packaging/httplines.service usr/lib/systemd/system/httplines.service
    stage "$tree" packaging/httplines@.service usr/lib/systemd/system/httplines@.service
    stage "$tree" packaging/httplines.sysusers usr/lib/sysusers.d/httplines.conf
    stage "$tree" packaging/httplines.toml etc/httplines/httplines.toml
    local example
    for example in "${EXAMPLES[@]}"; do
        stage "$tree" "$example" "$doc/examples/${example##*/}"
    done
    stage "$tree" docs/schema.json "$doc/schema.json"
    stage "$tree" docs/stats.schema.json "$doc/stats.schema.json"
    third_party_licences >"$tree/$doc/THIRD-PARTY-LICENCES"
}
EXAMPLES=(packaging/examples/{logrotate,vector.yaml,fluent-bit.conf,filebeat.yml}
    docs/rsyslog.conf docs/rsyslog-unclean.conf docs/alerts.yml docs/schema/clickhouse.sql)
STAGED=(docs/httplines.1 packaging/completions/{bash,zsh,fish} packaging/httplines.toml
    docs/schema.json docs/stats.schema.json "${EXAMPLES[@]}")

# Prints the crates in the program, and the texts of their licences, each once.
third_party_licences() {
    local crates name version licence folder file sum
    local -A users=() texts=()
    crates=$(cargo tree --locked -p httplines -e normal,no-proc-macro --prefix none \
        --format '{p}|{l}' |
        sed 's/ ([^)]*)//' | sort -u | grep -v '^httplines ')
    say "The program contains these crates, each under one of its licences, and Rust's"
    say "standard library (MIT OR Apache-2.0). The texts follow."
    say
    while IFS='| ' read -r name version licence; do
        say "$name ${version#v}: $licence"
        folder=$(compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/src/*/$name-${version#v}" |
            head -n 1) || die "the source of $name $version is not there"
        while IFS= read -r -d '' file; do
            sum=$(tr -d '[:space:]' <"$file" | cksum)
            texts[$sum]=$file
            users[$sum]+=" $name"
        done < <(find "$folder" "$folder/libbpf" "$folder/zstd" -maxdepth 1 -type f \
            \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \
            -o -iname 'unlicense*' \) -print0 2>/dev/null | sort -z)
    done <<<"$crates"
    for sum in $(printf '%s\n' "${!texts[@]}" | tr ' ' : | sort); do
        sum=${sum//:/ }
        printf '\n%s\n%s\n\n' "--- ${texts[$sum]##*/} of$(xargs -n1 <<<"${users[$sum]}" | uniq |
            xargs printf ' %s')" "$(cat -- "${texts[$sum]}")"
    done
}
