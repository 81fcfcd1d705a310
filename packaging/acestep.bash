# bash completion for acestep: options come from the program's own help, so they never go out of date
_acestep()
{
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=generate
    case ${COMP_WORDS[1]} in generate | write | format | understand | plan | gpu | bench | doctor) command=${COMP_WORDS[1]} ;; esac
    case $previous in
        --model | -m | --dit | --vae | --text-encoder | --lyrics | -l | --audio-codes | --output | -o | --from | --request | --lm | --genres)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return ;;
        --device) mapfile -t COMPREPLY < <(compgen -W "auto cpu cuda cuda:0 cuda:1" -- "$word"); return ;;
        --precision) mapfile -t COMPREPLY < <(compgen -W "bf16 f32" -- "$word"); return ;;
        --format) mapfile -t COMPREPLY < <(compgen -W "wav wav24 wav32 flac flac16 mp3 opus" -- "$word"); return ;;
        --solver) mapfile -t COMPREPLY < <(compgen -W "euler heun sde dpm3m stork4" -- "$word"); return ;;
        --variant) mapfile -t COMPREPLY < <(compgen -W "2b xl 2b+0.6B 2b+1.7B 2b+4B xl+0.6B xl+1.7B xl+4B" -- "$word"); return ;;
    esac
    if [[ $command == understand && $word != -* ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" "$command" --help 2>/dev/null | grep -oE '^ +(-[a-z], )?--[a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+')" -- "$word")
    elif ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "generate write format understand plan gpu doctor bench version help" -- "$word")
    fi
}
complete -F _acestep acestep
