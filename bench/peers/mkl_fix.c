/* MKL asks this whether it runs on an Intel processor, and takes a slower path if not. Loaded before
   it (LD_PRELOAD), this says yes: the same favour that the job does itself on AMD. */
int mkl_serv_intel_cpu_true(void) { return 1; }
