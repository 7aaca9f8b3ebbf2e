package pages

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Command is a call of a program that a page tells its reader to type.
type Command struct {
	Page  string
	Line  int
	Args  []string // Args are without the program.
	Whole bool     // Whole is false for a mention in running text, which may leave arguments out.
}

func (c Command) String() string {
	return fmt.Sprintf("%s:%d: %s", c.Page, c.Line, strings.Join(c.Args, " "))
}

// Commands returns the calls of a program in all pages: in blocks that are a shell's, and in
// backquotes.
func Commands(all []Page, program string) (out []Command) {
	for _, p := range all {
		for _, b := range p.Blocks {
			if !slices.Contains([]string{"", "sh", "bash", "console"}, b.Lang) {
				continue
			}
			for _, call := range simple(b.Text) {
				if is(call.words, program) {
					out = append(out, Command{p.Path, b.Line + call.line, call.words[1:], true})
				}
			}
		}
		for _, s := range p.Spans {
			if strings.ContainsAny(s.Text, "…<>{}") { // it is no command, or stands for several
				continue
			}
			for _, call := range simple(s.Text) {
				if is(call.words, program) {
					out = append(out, Command{p.Path, s.Line, call.words[1:], false})
				}
			}
		}
	}
	return out
}

// is reports whether the words call the program, by its name or by a path.
func is(words []string, program string) bool {
	return len(words) > 0 && (words[0] == program || strings.HasSuffix(words[0], "/"+program))
}

// call is one simple command, after the assignments before it.
type call struct {
	words []string
	line  int // line counts from 1 within the text
}

// simple splits a shell text into simple commands. It knows quotes, comments, continued lines,
// redirections and what stands between commands. It expands nothing.
func simple(text string) (calls []call) {
	var words []string
	line, began := 1, 1
	var word strings.Builder
	in := false // a word has begun, which may be empty
	skip := false
	flushWord := func() {
		if !in {
			return
		}
		w := word.String()
		word.Reset()
		in = false
		if skip { // where a redirection goes
			skip = false
			return
		}
		if name, _, ok := strings.Cut(w, "="); ok && len(words) == 0 && isName(name) {
			return
		}
		if len(words) == 0 {
			began = line
		}
		words = append(words, w)
	}
	flush := func() {
		flushWord()
		if len(words) > 0 {
			calls = append(calls, call{words, began})
		}
		words, skip = nil, false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == '\n' {
				flushWord()
				line++
				continue
			}
			in = true
			word.WriteByte(text[i])
		case c == '\'' || c == '"':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return calls // no shell text
			}
			in = true
			word.WriteString(text[i+1 : i+1+end])
			line += strings.Count(text[i:i+1+end], "\n")
			i += end + 1
		case c == '#' && !in:
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '\n':
			flush()
			line++
		case c == ' ' || c == '\t':
			flushWord()
		case c == '>' || c == '<':
			if in && isNumber(word.String()) { // 2>
				word.Reset()
				in = false
			}
			flushWord()
			skip = true
		case c == '|' || c == ';' || c == '&' || c == '(' || c == ')':
			if c == '&' && skip { // >&2
				continue
			}
			flush()
		default:
			in = true
			word.WriteByte(c)
		}
	}
	flush()
	return calls
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// Check reports why a command would not be understood. The tree of commands must be a fresh one,
// since flags keep what they were given.
func Check(root *cobra.Command, c Command) error {
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(c.Args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	args := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(args) > 0 {
		return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	}
	if help, _ := cmd.Flags().GetBool("help"); help || !c.Whole {
		return nil
	}
	if cmd.HasSubCommands() {
		return fmt.Errorf("%q is a group of commands", cmd.CommandPath())
	}
	return cmd.ValidateArgs(args)
}
