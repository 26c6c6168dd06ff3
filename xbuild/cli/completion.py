"""The task that prints completion for a shell."""

from __future__ import annotations

from xbuild.base import log
from xbuild.base.errors import UsageError
from xbuild.base.nearest import did_you_mean
from xbuild.cli.complete import FILES, SHELLS
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task

# Each asks the very program that the line begins with: another venv may have other commands.
_BASH = f"""\
_xbuild() {{
    COMPREPLY=()
    local found=()
    mapfile -t found < <("${{1/#\\~/$HOME}}" --complete bash "${{COMP_LINE:0:COMP_POINT}}" 2>/dev/null)
    if [ "${{found[0]-}}" = "{FILES}" ]; then
        compopt -o default 2>/dev/null
    else
        COMPREPLY=("${{found[@]}}")
    fi
}}
complete -F _xbuild xbuild
"""
_ZSH = f"""\
#compdef xbuild
_xbuild() {{
    local -a found described
    local one line name
    line="${{(j: :)${{(@q)${{(@Q)words[1,CURRENT-1]}}}}}} ${{(q)PREFIX}}"
    found=("${{(@f)$("${{(Q)words[1]/#\\~/$HOME}}" --complete zsh "$line" 2>/dev/null)}}")
    if [[ "$found[1]" == "{FILES}" ]]; then
        _files
        return
    fi
    for one in "${{(@)found:#}}"; do
        name="${{${{one%%$'\\t'*}}//:/\\\\:}}"
        # A name without a description would be described by itself.
        [[ "$one" == *$'\\t'* ]] && name+=":${{one#*$'\\t'}}"
        described+=("$name")
    done
    _describe 'xbuild' described
}}
if [ "$funcstack[1]" = "_xbuild" ]; then
    _xbuild "$@"
else
    compdef _xbuild xbuild
fi
"""
_FISH = f"""\
function __xbuild_complete
    set -l program (string replace -r '^~(?=/)' $HOME -- (commandline -opc)[1])
    set -l found ($program --complete fish (commandline -cp) 2>/dev/null)
    if test "$found[1]" = "{FILES}"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c xbuild -f -a '(__xbuild_complete)'
"""
_SCRIPTS = dict(zip(SHELLS, (_BASH, _ZSH, _FISH), strict=True))


@task(positional=["shell"], help={"shell": " or ".join(SHELLS)})
@guarded
def completion(_c: Context, shell: str) -> None:
    """Print the completion script of a shell: bash, zsh or fish."""
    if shell not in _SCRIPTS:
        raise UsageError(f"unknown shell {shell!r}{did_you_mean(shell, SHELLS)}", hint=" or ".join(SHELLS))
    log.output_text(_SCRIPTS[shell].removesuffix("\n"))
