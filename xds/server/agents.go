package server

// Agent is a program that nodes say they are, and its version. Both are the nodes' own words.
type Agent struct{ Program, Version string }

// Agents counts the nodes that are connected, by program and version. A node with several streams
// counts once.
func (s *Server) Agents() map[Agent]int {
	counted := map[string]bool{}
	all := map[Agent]int{}
	for _, st := range s.all() {
		st.mu.Lock()
		n, ended := st.m.node, st.ended
		st.mu.Unlock()
		if ended || n.ID == "" || counted[n.ID] {
			continue
		}
		counted[n.ID] = true
		all[Agent{n.Agent, n.Build}]++
	}
	return all
}
