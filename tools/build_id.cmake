# A header with a hash of the code generator's sources: objects in a cache belong to it.
#   cmake -DOUT=FILE -DSOURCES=a;b;c -P build_id.cmake
set(all "")
foreach(source ${SOURCES})
  file(SHA256 ${source} hash)
  string(APPEND all "${hash}\n")
endforeach()
string(SHA256 id "${all}")
file(WRITE ${OUT} "#define NN_BUILD_ID \"${id}\"\n")
