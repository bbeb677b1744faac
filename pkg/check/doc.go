// Package check looks once over the objects of a cluster and says what is
// broken now, what will be soon, and what is merely untidy.
//
// [Read] lists every kind once into a [Cluster]. The checks in [All] are pure
// functions of that, so that what a check recognises, and what it lets pass on
// purpose, can be said with a file of objects. [Examine] runs them, lets the
// rules of pkg/rule explain what is in trouble, and gives one [Root] for each
// thing that somebody would have to mend: thirty pods of a dead node are the
// node's, and the pods of a workload are the workload's.
package check
