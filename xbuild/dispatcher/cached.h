/* A cache of what compilers gave: a native program that gets a call as words of its own. Where it has no answer it starts
 * the compiler, by its path in the root, and so comes back to the dispatcher. Needs words.h. */

/* May the cache answer? What it starts has its variables, and is not led to it once more. */
static int cache_may_answer(const struct rules *rules, char **argv, char **envp)
{
    const struct table *table = (const struct table *)TABLE;
    return any_arg(rules->cache_args, argv + 1) && !any_arg(rules->cache_unless, argv + 1) &&
           !any_arg(rules->cache_unless, envp) && any_arg(table->cache_given, envp);
}

/* Comes back if it cannot be started: too long a command line, or no private directory. */
static void start_cache(const char *cache, const char *path, char **argv, char **envp)
{
    const struct table *table = (const struct table *)TABLE;
    size_t words = 0, variables = 0;
    while (argv[words])
        words++;
    while (envp[variables])
        variables++;
    char *given[words + 2], *env[variables + words_in(table->cache_env) + 1];
    given[0] = (char *)cache;
    given[1] = (char *)path;
    for (size_t i = 1; i <= words; i++)
        given[i + 1] = argv[i];
    set_variables(env, envp, table->cache_env);
    call(SYS_execve, (long)cache, (long)given, (long)env);
}
