// Package process keeps the memory of the program that it is in from other processes.
//
// Keys are in that memory for as long as the program runs. [Protect] is called first in main,
// before any key is read. From then on no process but root's reads the memory, follows the program
// with a debugger, or sees its environment, not even one of the same user. No core is written when
// the program dies.
//
// The kernel gives the files in /proc/PID to root then. The program reads its own all the same: its
// descriptors, its limits, its program file. A program that it starts is not protected before it
// calls Protect itself. Files that the user may read are not protected by this at all.
//
// [OutliveReaders] keeps the program going once nobody reads its output any more.
package process
