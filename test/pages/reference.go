package pages

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const made = "<!-- Made from the code by `make docs`. Do not edit. -->\n\n"

// wide is how long a generated line may get.
const wide = 99

// fold breaks a text into lines, each after the first with an indent.
func fold(text, indent string) string {
	var b strings.Builder
	n := 0
	for i, w := range strings.Fields(text) {
		size := len([]rune(w))
		switch {
		case i == 0:
		case n+1+size > wide:
			b.WriteString("\n" + indent)
			n = len(indent)
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(w)
		n += size
	}
	return b.String()
}

// CommandPage is the reference of a program's commands.
func CommandPage(root *cobra.Command) []byte {
	var b strings.Builder
	b.WriteString("# Commands of " + root.Name() + "\n\n" + made)
	b.WriteString(paragraphs(cmp.Or(root.Long, root.Short)))
	b.WriteString("\n## For every command\n\n")
	flags(&b, root.PersistentFlags())
	b.WriteString("\n")
	var all []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if !sub.HasSubCommands() {
				all = append(all, sub)
			}
			walk(sub)
		}
	}
	walk(root)
	b.WriteString("## The commands\n\n")
	for _, c := range all {
		b.WriteString(fold(fmt.Sprintf("- [%s](#%s): %s",
			c.CommandPath(), anchor(c.CommandPath()), escape(c.Short)), "  ") + "\n")
	}
	for _, c := range all {
		b.WriteString("\n## " + c.CommandPath() + "\n\n")
		b.WriteString("```text\n" + strings.TrimSuffix(c.UseLine(), " [flags]") + "\n```\n\n")
		b.WriteString(paragraphs(cmp.Or(c.Long, c.Short)))
		if c.HasAvailableLocalFlags() {
			b.WriteString("\n")
			flags(&b, c.NonInheritedFlags())
		}
	}
	return []byte(b.String())
}

// aligned finds lines that are a table made with spaces.
var aligned = regexp.MustCompile(`^  \S.*\S {2,}\S`)

// paragraphs sets the long help of a command as Markdown.
func paragraphs(text string) string {
	var b strings.Builder
	for i, para := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if aligned.MatchString(strings.Split(para, "\n")[0]) || strings.HasPrefix(para, "  ") {
			b.WriteString("```text\n" + para + "\n```\n")
			continue
		}
		b.WriteString(fold(escape(para), "") + "\n")
	}
	return b.String()
}

// escape keeps names in angle brackets from being taken for HTML.
func escape(s string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;", "|", "\\|").Replace(s)
}

var environment = regexp.MustCompile(` \[\$(\w+)\]$`)

// flags lists flags with their meaning, default and environment variable.
func flags(b *strings.Builder, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		arg, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if arg != "" {
			name += " " + strings.ToUpper(arg)
		}
		text := "- `" + name + "`: "
		env := environment.FindStringSubmatch(usage)
		text += escape(environment.ReplaceAllString(usage, ""))
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" {
			text += ". Default `" + strings.Trim(d, "[]") + "`"
		}
		if env != nil {
			text += ". Environment `" + env[1] + "`"
		}
		b.WriteString(fold(text, "  ") + "\n")
	})
}
