package pages

import (
	"cmp"
	"go/ast"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Where the admin API is: its server, and its types.
const (
	adminDir = "cmd/internal/admin"
	apiDir   = "cmd/internal/api"
)

// route is what a page has to say of a route beyond what the code tells.
type route struct {
	says   string
	body   string // body is the media type of a request that is no JSON.
	answer string // answer is the media type of an answer that is no JSON.
	// schema is the type of the answer, or of each of its lines, where the handler writes it
	// itself.
	schema string
}

const (
	lines    = "application/x-ndjson"
	binaries = "application/octet-stream"
	text     = "text/plain"
)

// routes are all that the admin API has. The test fails if there is another one.
var routes = map[string]route{
	"GET /v1/status":          {says: "The scopes, their keys and nodes, and what is not well."},
	"GET /v1/pulse":           {says: "How this replica is, for the other replicas. It is answered from memory."},
	"GET /v1/nodes":           {says: "The nodes with what they hold and refuse."},
	"DELETE /v1/nodes/{node}": {says: "Take a node that is gone off the list of nodes that were here."},
	"GET /v1/problems": {
		says: "What is not well at this replica alone, the most severe first, and last what is acknowledged.",
	},
	"GET /v1/troubles": {says: "Secrets that nodes of this replica do not have as they should."},
	"GET /v1/events": {
		says:   "What happens, one line each, until the client leaves. An empty line comes every 15 s.",
		answer: lines, schema: "Line",
	},
	"GET /v1/journal":                      {says: "What happened, over all replicas, by time, one page of it."},
	"GET /v1/scopes/{scope}/history":       {says: "What changed the keys of a scope, oldest line first."},
	"GET /v1/scopes/{scope}/plan":          {says: "What a rotation would do now, to whom, and what would block it."},
	"GET /v1/scopes/{scope}/rotations/{n}": {says: "How a rotation stands."},
	"POST /v1/scopes/{scope}/rotate": {
		says: "Begin a rotation, or join the one that is under way. It returns at once.",
	},
	"POST /v1/scopes/{scope}/burn":     {says: "Replace every key of the scope at once. It returns at once."},
	"POST /v1/scopes/{scope}/rollback": {says: "Undo the newest change of the scope's keys. It returns at once."},
	"POST /v1/scopes/{scope}/exclude":  {says: "Let rotations go on without a node for a while."},
	"POST /v1/problems/{code}/ack":     {says: "Say that an operator knows about the problems of a code."},
	"GET /v1/certs":                    {says: "The certificates by name, one page of them."},
	"GET /v1/certs/{name}":             {says: "One certificate with its chain, never its key."},
	"PUT /v1/certs/{name}":             {says: "Store a certificate. Nodes that serve the name get it."},
	"DELETE /v1/certs/{name}":          {says: "Remove a certificate from the store."},
	"POST /v1/certs/import":            {says: "Store the certificates of a tar archive.", body: "application/x-tar"},
	"POST /v1/certs/confirm-loss":      {says: "Give up the names that are held back."},
	"GET /v1/hosts":                    {says: "The eager hosts, and those that were."},
	"PUT /v1/hosts/{name}":             {says: "Make a host eager."},
	"DELETE /v1/hosts/{name}":          {says: "Let a host go on demand again."},
	"GET /v1/listening":                {says: "What nodes of this replica made of the listener."},
	"GET /v1/explain":                  {says: "Which certificate a server name gets, and why not another."},
	"GET /v1/doors":                    {says: "What keeps a name from nodes of this replica just now."},
	"GET /v1/grants":                   {says: "Who received a ticket key or a certificate, and who may."},
	"GET /v1/audit":                    {says: "The newest lines of the audit log, oldest first."},
	"GET /v1/audit/items/{digest}":     {says: "The certificates that a line of the audit log stands for."},
	"GET /v1/audit/verify":             {says: "Look for lines of the log in the store that were tampered with."},
	"POST /v1/audit/verify":            {says: "The same for lines of a file, which the request brings.", body: lines},
	"POST /v1/audit/mend":              {says: "Begin the newest lines of the log anew where they are damaged."},
	"GET /v1/tokens":                   {says: "The tokens of operators, without the tokens themselves."},
	"POST /v1/tokens":                  {says: "Make a token. The answer shows it, this once."},
	"DELETE /v1/tokens/{name}":         {says: "Revoke a token."},
	"GET /v1/kek":                      {says: "How the sealing of the store stands."},
	"POST /v1/kek/rotate":              {says: "Begin a change of the sealing key. It returns at once."},
	"POST /v1/kek/retire": {
		says: "Drop the old sealing keys, once a scan has proved that they are not needed.",
	},
	"POST /v1/backup":  {says: "An encrypted backup, which is an age file.", answer: binaries},
	"POST /v1/restore": {says: "Bring back the inner text of a backup.", body: lines},
	"POST /v1/store/records": {
		says:   "The records as they are sealed, one line each; the last line has head.",
		answer: lines, schema: "StoreRecord",
	},
	"POST /v1/store/freeze":    {says: "Stop all changes in the store."},
	"POST /v1/store/thaw":      {says: "Let changes happen again."},
	"GET /metrics":             {says: "Metrics for Prometheus.", answer: text},
	"GET /healthz":             {says: "200 while the process runs.", answer: text},
	"GET /readyz":              {says: "200 when nodes are let in; 503 with the reason before.", answer: text},
	"GET /debug/pprof/":        {says: "Go's profiles.", answer: text},
	"GET /debug/pprof/profile": {says: "A CPU profile.", answer: binaries},
	"GET /debug/pprof/trace":   {says: "A trace of Go's scheduler.", answer: binaries},
	"GET /debug/pprof/cmdline": {says: "The command line.", answer: text},
	"GET /debug/pprof/symbol":  {says: "Names of addresses.", answer: text},
}

// parameters are what a query or a path may have. The test fails if the code reads another one.
var parameters = map[string]string{
	"scope":          "the scope, such as default",
	"code":           "the code of a problem, as status shows it",
	"n":              "the number of the rotation",
	"digest":         "the digest that the line names",
	"node":           "only this node; for explain, whether this node may have it",
	"here":           "only what is connected to this replica",
	"all":            "also the nodes that were here within 30 days, and the expected ones",
	"cert":           "only nodes that asked for this certificate",
	"key":            "the ID of a ticket key",
	"name":           "a server name; of a token, its name",
	"identity":       "whether a node of this identity may have it",
	"prefix":         "only names that begin so",
	"after":          "go on behind this place: next of the answer before",
	"limit":          "at most so many, 1 to 1000",
	"expires_within": "only those that expire within this time (Go's form, such as 24h), or have expired",
	"last":           "how many lines, 1 to 10000; 50 if it is missing",
	"plan":           "true: say what would change, and change nothing",
	"by":             "who asks, for the audit log",
	"since":          "only what was changed after this head; for the journal only from this time on (RFC 3339)",
	"until":          "only what happened before this time (RFC 3339)",
	"host":           "only what is about the certificate of this server name",
	"kind":           "only this kind of event, or kinds that it is a part of, such as node or cert",
}

// handler is what the code tells of a route.
type handler struct {
	answer, body string // answer and body are types of package api; empty: none.
	query        []string
}

// AdminAPI is the OpenAPI description of the admin API, in YAML.
func AdminAPI(t testing.TB) []byte {
	t.Helper()
	types := apiTypes(t)
	found, roles := handlers(t), rolesOf(t)
	for pattern := range routes {
		if _, ok := found[pattern]; !ok {
			t.Errorf("openapi.go describes %s, which the admin API does not have", pattern)
		}
	}
	used := map[string]bool{"Error": true, "Code": true}
	paths := map[string]yaml.MapSlice{}
	for _, pattern := range slices.Sorted(maps.Keys(found)) {
		r, ok := routes[pattern]
		if !ok {
			t.Errorf("the admin API has %s: say in test/pages/openapi.go what it does", pattern)
			continue
		}
		if roles[pattern] == "" {
			t.Errorf("the admin API has %s: say in needs.go who may use it", pattern)
		}
		method, path, _ := strings.Cut(pattern, " ")
		paths[path] = append(paths[path],
			yaml.MapItem{
				Key:   strings.ToLower(method),
				Value: operation(t, method, path, roles[pattern], r, found[pattern], used),
			})
	}
	// Types that others have as fields.
	for more := true; more; {
		more = false
		for name := range used {
			for ref := range types[name].refs {
				if !used[ref] {
					used[ref], more = true, true
				}
			}
		}
	}
	var all, schemas yaml.MapSlice
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		all = append(all, yaml.MapItem{Key: path, Value: paths[path]})
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		ty, ok := types[name]
		if !ok {
			t.Errorf("package api has no type %s", name)
			continue
		}
		schemas = append(schemas, yaml.MapItem{Key: name, Value: ty.schema})
	}
	out, err := yaml.Marshal(yaml.MapSlice{
		{Key: "openapi", Value: "3.0.3"},
		{Key: "info", Value: yaml.MapSlice{
			{Key: "title", Value: "Lockstep admin API"},
			{Key: "version", Value: "1"},
			{Key: "description", Value: "lockstepd serves it on admin_listen. " +
				"Made from the code by make docs: do not edit. " +
				"All but /metrics, /healthz and /readyz needs a token: that in admin.token of the data directory, " +
				"which has the role admin, or one of lockstep token new. A higher role includes the lower ones. " +
				"x-lockstep-role is the role that a request needs. " +
				"The headers Host and Origin must be the server's own. " +
				"On other addresses than loopback and unix sockets it speaks mTLS, and a client certificate to which " +
				"the policy gives the role needs no token."},
			{Key: "license", Value: yaml.MapSlice{{Key: "name", Value: "Apache-2.0"}}},
		}},
		{Key: "servers", Value: []yaml.MapSlice{{{Key: "url", Value: "http://127.0.0.1:18080"}}}},
		{Key: "security", Value: []yaml.MapSlice{{{Key: "token", Value: []string{}}}}},
		{Key: "paths", Value: all},
		{Key: "components", Value: yaml.MapSlice{
			{Key: "securitySchemes", Value: yaml.MapSlice{
				{Key: "token", Value: yaml.MapSlice{{Key: "type", Value: "http"}, {Key: "scheme", Value: "bearer"}}},
			}},
			{Key: "responses", Value: yaml.MapSlice{{Key: "Error", Value: yaml.MapSlice{
				{Key: "description", Value: "400 usage, 403 denied, 404 not found, 409 and 422 refused, 500 failed, " +
					"503 refused since the audit log takes no lines"},
				{Key: "content", Value: content("application/json", reference("Error"))},
			}}}},
			{Key: "schemas", Value: schemas},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("# Made from the code by make docs. Do not edit.\n"), out...)
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

func operation(t testing.TB, method, path, role string, r route, h handler, used map[string]bool) yaml.MapSlice {
	op := yaml.MapSlice{{Key: "summary", Value: r.says}}
	var params []yaml.MapSlice
	param := func(name, in string) {
		says, ok := parameters[name]
		if !ok {
			t.Errorf("%s %s reads %q: say in test/pages/openapi.go what it is", method, path, name)
		}
		params = append(params, yaml.MapSlice{
			{Key: "name", Value: name}, {Key: "in", Value: in},
			{Key: "required", Value: in == "path"}, {Key: "description", Value: says},
			{Key: "schema", Value: yaml.MapSlice{{Key: "type", Value: "string"}}},
		})
	}
	for _, m := range inPath.FindAllStringSubmatch(path, -1) {
		param(m[1], "path")
	}
	for _, q := range h.query {
		param(q, "query")
	}
	if len(params) > 0 {
		op = append(op, yaml.MapItem{Key: "parameters", Value: params})
	}
	switch {
	case h.body != "":
		used[h.body] = true
		op = append(op, yaml.MapItem{Key: "requestBody", Value: yaml.MapSlice{
			{Key: "required", Value: true}, {Key: "content", Value: content("application/json", reference(h.body))},
		}})
	case r.body != "":
		op = append(op, yaml.MapItem{Key: "requestBody", Value: yaml.MapSlice{
			{Key: "required", Value: true}, {Key: "content", Value: content(r.body, binary())},
		}})
	}
	media, schema := cmp.Or(r.answer, "application/json"), yaml.MapSlice{{Key: "type", Value: "object"}}
	switch name := cmp.Or(h.answer, r.schema); {
	case name != "":
		used[name] = true
		schema = reference(name)
	case r.answer == text:
		schema = yaml.MapSlice{{Key: "type", Value: "string"}}
	case r.answer != "":
		schema = binary()
	}
	op = append(op, yaml.MapItem{Key: "responses", Value: yaml.MapSlice{
		{Key: "200", Value: yaml.MapSlice{
			{Key: "description", Value: "done"}, {Key: "content", Value: content(media, schema)},
		}},
		{Key: "default", Value: yaml.MapSlice{{Key: "$ref", Value: "#/components/responses/Error"}}},
	}})
	if role == open {
		return append(op, yaml.MapItem{Key: "security", Value: []yaml.MapSlice{}})
	}
	return append(op, yaml.MapItem{Key: "x-lockstep-role", Value: role})
}

// open is the role of a route that everybody may use.
const open = "none"

// rolesOf reads from the code which role each route needs.
func rolesOf(t testing.TB) map[string]string {
	roles := map[string]string{} // by the variable, then by the route
	of := func(x ast.Expr) string {
		switch x := x.(type) {
		case *ast.Ident:
			return roles[x.Name]
		case *ast.CompositeLit:
			for _, e := range x.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok && selected(kv.Key) == "role" {
					return strings.ToLower(selected(kv.Value))
				}
			}
		}
		return open
	}
	out := map[string]string{}
	for _, f := range Sources(t, adminDir) {
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, x := range v.Values {
				lit, ok := x.(*ast.CompositeLit)
				switch {
				case !ok:
				case selected(lit.Type) == "need":
					roles[v.Names[i].Name] = of(lit)
				case v.Names[i].Name == "needs":
					for _, e := range lit.Elts {
						kv := e.(*ast.KeyValueExpr)
						out[literal(kv.Key)] = of(kv.Value)
					}
				}
			}
			return true
		})
	}
	if len(out) < 20 {
		t.Fatalf("only %d routes were found in needs of %s", len(out), adminDir)
	}
	return out
}

func content(media string, schema yaml.MapSlice) yaml.MapSlice {
	return yaml.MapSlice{{Key: media, Value: yaml.MapSlice{{Key: "schema", Value: schema}}}}
}

func reference(name string) yaml.MapSlice {
	return yaml.MapSlice{{Key: "$ref", Value: "#/components/schemas/" + name}}
}

func binary() yaml.MapSlice {
	return yaml.MapSlice{{Key: "type", Value: "string"}, {Key: "format", Value: "binary"}}
}

// handlers reads the routes of the admin API from its code.
func handlers(t testing.TB) map[string]handler {
	funcs := map[string]*ast.FuncDecl{}
	var calls []*ast.CallExpr
	for _, f := range Sources(t, adminDir) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				funcs[fn.Name.Name] = fn
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && len(c.Args) == 2 && strings.HasPrefix(selected(c.Fun), "Handle") {
				calls = append(calls, c)
			}
			return true
		})
	}
	out := map[string]handler{}
	for _, c := range calls {
		pattern := literal(c.Args[0])
		if !strings.Contains(pattern, " /") {
			continue
		}
		var h handler
		ast.Inspect(c.Args[1], func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && funcs[sel.Sel.Name] != nil && funcs[sel.Sel.Name].Recv != nil {
				h.read(funcs, funcs[sel.Sel.Name], true)
				return false
			}
			return true
		})
		slices.Sort(h.query)
		h.query = slices.Compact(h.query)
		out[pattern] = h
	}
	if len(out) < 20 {
		t.Fatalf("only %d routes were found in %s", len(out), adminDir)
	}
	return out
}

// read takes what a function tells: its result, what it decodes from the body, and what it reads
// from the query. It follows calls that pass the request on.
func (h *handler) read(funcs map[string]*ast.FuncDecl, fn *ast.FuncDecl, top bool) {
	declared := map[string]string{} // types of package api, by variable
	note := func(names []*ast.Ident, typ ast.Expr) {
		if sel, ok := typ.(*ast.SelectorExpr); ok && selected(sel.X) == "api" {
			for _, n := range names {
				declared[n.Name] = sel.Sel.Name
			}
		}
	}
	if fn.Type.Results != nil {
		for i, r := range fn.Type.Results.List {
			note(r.Names, r.Type)
			if sel, ok := r.Type.(*ast.SelectorExpr); ok && top && i == 0 && selected(sel.X) == "api" {
				h.answer = sel.Sel.Name
			}
		}
	}
	queries := map[string]bool{} // variables that hold the query
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			note(n.Names, n.Type)
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && len(n.Rhs) == 1 && isQuery(n.Rhs[0]) {
				queries[selected(n.Lhs[0])] = true
			}
		case *ast.CallExpr:
			name := selected(n.Fun)
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && (name == "Get" || name == "Has") && len(n.Args) == 1 &&
				(isQuery(sel.X) || queries[selected(sel.X)]) {
				h.query = append(h.query, literal(n.Args[0]))
			}
			if name == "body" && len(n.Args) == 2 {
				if u, ok := n.Args[1].(*ast.UnaryExpr); ok {
					h.body = declared[selected(u.X)]
				}
				return true
			}
			if called := funcs[name]; called != nil && called != fn &&
				slices.ContainsFunc(n.Args, func(a ast.Expr) bool { return selected(a) == "r" }) {
				h.read(funcs, called, false)
			}
		}
		return true
	})
}

// isQuery reports whether e is r.URL.Query().
func isQuery(e ast.Expr) bool {
	c, ok := e.(*ast.CallExpr)
	return ok && selected(c.Fun) == "Query"
}

// selected is the last name of an expression: of a.b.c it is c.
func selected(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return s
}

// joined is a literal, or several with + between them.
func joined(e ast.Expr) string {
	if b, ok := e.(*ast.BinaryExpr); ok {
		return joined(b.X) + joined(b.Y)
	}
	return literal(e)
}

// apiType is a type of package api as a schema, and the types that it needs.
type apiType struct {
	schema yaml.MapSlice
	refs   map[string]bool
}

func apiTypes(t testing.TB) map[string]apiType {
	specs := map[string]*ast.TypeSpec{}
	docs := map[string]string{}
	codes := []string{}
	for _, f := range Sources(t, apiDir) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					specs[s.Name.Name] = s
					docs[s.Name.Name] = cmp.Or(s.Doc.Text(), g.Doc.Text())
				case *ast.ValueSpec:
					if selected(s.Type) == "Code" {
						codes = append(codes, literal(s.Values[0]))
					}
				}
			}
		}
	}
	out := map[string]apiType{}
	for name, spec := range specs {
		ty := apiType{refs: map[string]bool{}}
		says := strings.Join(strings.Fields(docs[name]), " ")
		switch s := spec.Type.(type) {
		case *ast.StructType:
			props, parents, required := properties(t, s, ty.refs)
			ty.schema = yaml.MapSlice{{Key: "type", Value: "object"}, {Key: "description", Value: says}}
			if len(required) > 0 {
				ty.schema = append(ty.schema, yaml.MapItem{Key: "required", Value: required})
			}
			ty.schema = append(ty.schema, yaml.MapItem{Key: "properties", Value: props})
			if len(parents) > 0 {
				ty.schema = yaml.MapSlice{{Key: "allOf", Value: append(parents, ty.schema)}}
			}
		case *ast.Ident:
			ty.schema = yaml.MapSlice{{Key: "type", Value: "string"}, {Key: "description", Value: says}}
			if name == "Code" {
				ty.schema = append(ty.schema, yaml.MapItem{Key: "enum", Value: codes})
			}
		default:
			continue
		}
		out[name] = ty
	}
	return out
}

func properties(
	t testing.TB, s *ast.StructType, refs map[string]bool,
) (props yaml.MapSlice, parents []yaml.MapSlice, required []string) {
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 { // embedded
			refs[selected(f.Type)] = true
			parents = append(parents, reference(selected(f.Type)))
			continue
		}
		if f.Tag == nil {
			continue // it is no JSON
		}
		tag := reflect.StructTag(literal(f.Tag)).Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if name == "" || name == "-" {
			continue
		}
		schema := schemaOf(t, f.Type, refs)
		if says := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " "); says != "" {
			if schema[0].Key == "$ref" { // in OpenAPI 3.0 nothing may stand beside it
				schema = yaml.MapSlice{{Key: "allOf", Value: []yaml.MapSlice{schema}}}
			}
			schema = append(schema, yaml.MapItem{Key: "description", Value: says})
		}
		if options == "" {
			required = append(required, name)
		}
		props = append(props, yaml.MapItem{Key: name, Value: schema})
	}
	return props, parents, required
}

func schemaOf(t testing.TB, e ast.Expr, refs map[string]bool) yaml.MapSlice {
	basic := func(typ, format string) yaml.MapSlice {
		s := yaml.MapSlice{{Key: "type", Value: typ}}
		if format != "" {
			s = append(s, yaml.MapItem{Key: "format", Value: format})
		}
		return s
	}
	switch e := e.(type) {
	case *ast.StarExpr:
		return schemaOf(t, e.X, refs)
	case *ast.ArrayType:
		if selected(e.Elt) == "byte" {
			return basic("string", "byte")
		}
		return append(basic("array", ""), yaml.MapItem{Key: "items", Value: schemaOf(t, e.Elt, refs)})
	case *ast.MapType:
		return append(basic("object", ""), yaml.MapItem{Key: "additionalProperties", Value: schemaOf(t, e.Value, refs)})
	case *ast.SelectorExpr:
		if selected(e.X) == "time" && e.Sel.Name == "Time" {
			return basic("string", "date-time")
		}
	case *ast.Ident:
		switch e.Name {
		case "string":
			return basic("string", "")
		case "bool":
			return basic("boolean", "")
		case "int", "uint64", "int64":
			return basic("integer", "int64")
		case "float64":
			return basic("number", "double")
		}
		refs[e.Name] = true
		return reference(e.Name)
	}
	t.Errorf("the schema of a %T is not known", e)
	return basic("object", "")
}
