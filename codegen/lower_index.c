/* Gather, scatter, search: being written by helper J (the lead moved it from F). */
