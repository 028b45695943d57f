/* Recurrent cells: being written by helper I (the lead moved it from F). */
