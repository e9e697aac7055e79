// What newer systems have newer versions of, for systems that have the older ones: each library has
// these for itself, so that it loads where manylinux_2_28 does (glibc 2.28, gcc 8's libstdc++),
// whatever it was built on. `auditwheel show` says what asks for more.
#include <new>
#include <sstream>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GLIBCXX__)

#define VAE_FAST_HIDDEN(symbol) asm(".hidden " #symbol)

// ---- glibc -------------------------------------------------------------------------------------

// Since 2.29 they leave out what nobody asks for: an error handler of 1989. Same results.
#define VAE_FAST_OLD(function)                                            \
  asm(".symver vae_fast_" #function "," #function "@GLIBC_2.2.5");        \
  extern "C" double vae_fast_##function(double);                          \
  extern "C" double function(double x) { return vae_fast_##function(x); } \
  VAE_FAST_HIDDEN(function)

VAE_FAST_OLD(exp);
VAE_FAST_OLD(exp2);
VAE_FAST_OLD(log);

// Since 2.32: whether reference counts need no atomics. They do.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = 0;
VAE_FAST_HIDDEN(__libc_single_threaded);

// ---- libstdc++ ---------------------------------------------------------------------------------

// Members of its templates, that its library has since gcc 9 or 11.
template std::ostringstream::basic_ostringstream();
template std::stringstream::basic_stringstream();
template std::string std::stringbuf::str() const&;
template std::string std::stringbuf::str() &&;
VAE_FAST_HIDDEN(_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev);
VAE_FAST_HIDDEN(_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC2Ev);
VAE_FAST_HIDDEN(_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC1Ev);
VAE_FAST_HIDDEN(_ZNSt7__cxx1118basic_stringstreamIcSt11char_traitsIcESaIcEEC2Ev);
VAE_FAST_HIDDEN(_ZNKRSt7__cxx1115basic_stringbufIcSt11char_traitsIcESaIcEE3strEv);
VAE_FAST_HIDDEN(_ZNOSt7__cxx1115basic_stringbufIcSt11char_traitsIcESaIcEE3strEv);

// Since gcc 11.
void std::__throw_bad_array_new_length() { throw std::bad_array_new_length(); }
VAE_FAST_HIDDEN(_ZSt28__throw_bad_array_new_lengthv);

#endif
