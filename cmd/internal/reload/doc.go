// Package reload has a program take its configuration file over again while it runs.
//
// A program says which of its settings can change at run time (Live), and how they are put in force
// (Apply). Everything else is here, and is the same in all programs:
//
//   - A file that cannot be used is refused as a whole. What was in force stays, and the fault is
//     logged and shown with file and line.
//   - What can change does, and is logged with the old value and the new one.
//   - What cannot change is named with the value in force and the value in the file, in the log and
//     for as long as they differ.
//   - A file that was edited and not taken over yet is shown, too.
//
// Values are shown without the passwords of URLs (package settings).
package reload
